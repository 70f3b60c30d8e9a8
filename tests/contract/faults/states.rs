//! The states of a host that were met before: those in which the work was complete, and those from which a rerun has
//! converged. In the same state the work is complete again, and from the same state a rerun does the same, so each is checked
//! once for all points that leave it.
//!
//! A state is everything on the host that a rerun could notice, including the journal, the locks and the insides of `.git`.
//! It leaves out what differs between two runs that did the same: ids of runs and processes, times, random names, the ids
//! of new commits (which contain times), the order of a journal's records, the journals of finished runs, which an apply does
//! not read, and what the index records about a file, except whether that is still true.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fmt::Write;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use git2::{ObjectType, Odb, Oid};

use super::bench::{Bench, RECORDS, UNCHANGING};
use crate::sandbox::{CHECKOUT, Sandbox, Snapshot};

/// Every this many times, a state that was met before is checked all the same.
const AGAIN: usize = 20;

/// What is checked in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Checked {
    /// The work is complete.
    Complete,
    /// A rerun completes it.
    Rerun,
}

/// The states that were met.
#[derive(Default)]
pub struct States {
    good: HashMap<(Checked, blake3::Hash), usize>,
    /// How many reruns, and how many comparisons of a complete state, were left out.
    pub reruns: usize,
    pub comparisons: usize,
}

impl States {
    /// Returns whether nothing new would be learnt from a check.
    pub fn has(&mut self, checked: Checked, state: blake3::Hash) -> bool {
        let Some(times) = self.good.get_mut(&(checked, state)) else { return false };
        *times += 1;
        let skip = !times.is_multiple_of(AGAIN);
        let left_out = match checked {
            Checked::Complete => &mut self.comparisons,
            Checked::Rerun => &mut self.reruns,
        };
        *left_out += usize::from(skip);
        skip
    }

    /// Adds a state in which nothing was wrong.
    pub fn add(&mut self, checked: Checked, state: blake3::Hash) {
        self.good.entry((checked, state)).or_default();
    }
}

/// What of `lstat` changes whenever a file or its attributes change. A path with the same stamp has the same content: tests
/// look only while nothing runs, and a run takes longer than the clock of the files takes for a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    pub fn of(stat: &Metadata) -> Self {
        Self { inode: stat.ino(), size: stat.size(), changed: (stat.ctime(), stat.ctime_nsec()) }
    }
}

/// The digests of the files that were read before.
#[derive(Default)]
pub struct Digests(HashMap<PathBuf, (Stamp, blake3::Hash)>);

impl Digests {
    fn of(&mut self, at: &Path, stat: &Metadata) -> blake3::Hash {
        let stamp = Stamp::of(stat);
        if let Some((_, digest)) = self.0.get(at).filter(|(known, _)| *known == stamp) {
            return *digest;
        }
        let digest = blake3::hash(&fs::read(at).unwrap());
        self.0.insert(at.to_owned(), (stamp, digest));
        digest
    }
}

/// Returns the ids of the objects in a folder `objects`.
pub fn objects(folder: &Path) -> HashSet<Oid> {
    let mut found = HashSet::new();
    if folder.exists() {
        let base = Odb::new().unwrap();
        base.add_disk_alternate(folder.to_str().unwrap()).unwrap();
        base.foreach(|id| {
            found.insert(*id);
            true
        })
        .unwrap();
    }
    found
}

/// The files of a host.
pub struct Seen {
    /// Without those of the database, of this run, and of `.git`.
    pub files: Snapshot,
    /// All of them in a comparable form. `None` if an object cannot be read: such a state is like no other.
    pub described: Option<String>,
}

/// Returns the files of the host. `known` are the objects that existed before the run.
pub fn look(sandbox: &Sandbox, known: &HashSet<Oid>, digests: &mut Digests) -> Seen {
    let commits = new_commits(&sandbox.path(CHECKOUT).join(".git/objects"), known);
    let none = HashMap::new();
    let mut walk =
        Walk { commits: commits.as_ref().unwrap_or(&none), digests, lines: Vec::new(), files: Snapshot::default() };
    walk.add(sandbox.dir(), "");
    // Not seen from outside.
    walk.add(&sandbox.root().join("dev/shm"), "/dev/shm");
    walk.add(&sandbox.root().join("run"), "/run");
    let (mut lines, files) = (walk.lines, walk.files);
    lines.sort_unstable();
    Seen { files, described: commits.is_some().then(|| lines.concat()) }
}

struct Walk<'a> {
    commits: &'a HashMap<String, String>,
    digests: &'a mut Digests,
    lines: Vec<String>,
    files: Snapshot,
}

impl Walk<'_> {
    /// Adds the entry at `at`, which the host knows as `path`, and what is below it.
    fn add(&mut self, at: &Path, path: &str) {
        if UNCHANGING.contains(&path) || path.starts_with("/dev/shm/PostgreSQL.") {
            return;
        }
        let stat = match fs::symlink_metadata(at) {
            Ok(stat) => stat,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => panic!("{}: {error}", at.display()),
        };
        let kind = stat.file_type();
        let in_git = path.strip_prefix(CHECKOUT).and_then(|inside| inside.strip_prefix("/.git"));
        let in_git = in_git.filter(|inside| inside.is_empty() || inside.starts_with('/'));
        let object = in_git.and_then(|inside| inside.strip_prefix("/objects/"));
        let below =
            |folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let recorded = RECORDS.into_iter().any(below);
        let varies = recorded || in_git.is_some() && object.is_none() || path.contains("provision-");
        let mut name = if varies { common(path.as_bytes(), self.commits) } else { path.to_owned() };
        let (mut content, mut digest) = (String::new(), None);
        if let Some(id) = object.map(|name| name.replace('/', ""))
            && let Some(commit) = self.commits.get(&id)
        {
            // Its content has been read.
            name = format!("{CHECKOUT}/.git/objects/{commit}");
        } else if kind.is_symlink() {
            content = fs::read_link(at).unwrap().display().to_string();
        } else if kind.is_file() {
            let read = || fs::read(at).unwrap();
            content = if in_git == Some("/index") {
                let bytes = read();
                index(&bytes, at, &stat).unwrap_or_else(|| blake3::hash(&bytes).to_string())
            } else if recorded && path.contains("/runs/") && path.ends_with(".jsonl") {
                // A finished journal, which only `history` and `rescue` read.
                String::new()
            } else if recorded && path.ends_with(".running") {
                // Steps run at the same time, so the order of their records varies.
                let records = common(&read(), self.commits);
                let mut records: Vec<_> = records.split('\n').collect();
                records.sort_unstable();
                blake3::hash(records.join("\n").as_bytes()).to_string()
            } else if varies {
                blake3::hash(common(&read(), self.commits).as_bytes()).to_string()
            } else {
                let whole = self.digests.of(at, &stat);
                digest = Some(whole);
                whole.to_string()
            };
        } else if kind.is_dir() {
            for entry in fs::read_dir(at).unwrap() {
                let entry = entry.unwrap();
                self.add(&entry.path(), &format!("{path}/{}", entry.file_name().to_string_lossy()));
            }
        }
        if in_git.is_none() && !recorded && !["/opt/provision", "/dev", "/run"].into_iter().any(below) {
            let digest = digest.or_else(|| kind.is_file().then(|| self.digests.of(at, &stat)));
            let whole = digest.map_or_else(|| content.clone(), |digest| digest.to_hex()[..16].to_owned());
            self.files.add_entry(if path.is_empty() { "/" } else { path }, &stat, whole);
        }
        // The folders of objects are named after the objects.
        if kind.is_dir() && object.is_some_and(|name| name.len() == 2) {
            return;
        }
        let sort = (kind.is_dir(), kind.is_file(), kind.is_symlink(), kind.is_fifo());
        let links = if kind.is_dir() { 0 } else { stat.nlink() };
        let mut line = format!("{name} {sort:?} {:o} {}:{} {links}", stat.mode(), stat.uid(), stat.gid());
        writeln!(line, " {} {content}", attributes(at)).unwrap();
        self.lines.push(line);
    }
}

/// Returns the extended attributes, with ACLs.
pub fn attributes(at: &Path) -> String {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(at, &mut names[..]).unwrap_or_default();
    let (mut text, mut value) = (String::new(), vec![0; 4096]);
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let length = rustix::fs::lgetxattr(at, name, &mut value[..]).unwrap_or_default();
        write!(text, "{}={:?} ", String::from_utf8_lossy(name), &value[..length]).unwrap();
    }
    text
}

/// The forms of ids, times and random names: after the given text, `9` is a digit, `h` a hexadecimal digit, `w` a letter or
/// digit. The last one may be repeated.
const FORMS: [(&str, &str); 6] = [
    ("", "99999999T999999Z-hhhhhhhh"),
    ("", "9999-99-99T99:99:99"),
    ("\"pid\":", "9"),
    ("> ", "9999999999"),
    (".provision-", "hhhhhhhhhhhh-hhhhhhhhhhhhhhhh"),
    ("provision-fetch-", "w"),
];

/// Returns text without what differs between two runs that did the same.
fn common(text: &[u8], commits: &HashMap<String, String>) -> String {
    // Text that is not UTF-8 differs from every other one.
    let mut text = String::from_utf8(text.to_vec()).unwrap_or_else(|error| format!("{:?}", error.as_bytes()));
    for (start, form) in FORMS {
        text = without(&text, start, form);
    }
    for (id, name) in commits {
        if text.contains(id) {
            text = text.replace(id, name);
        }
    }
    text
}

/// Returns text with `*` in place of what has a form after `start`.
fn without(text: &str, start: &str, form: &str) -> String {
    let is = |form: u8, byte: u8| match form {
        b'9' => byte.is_ascii_digit() || byte == b'.',
        b'h' => byte.is_ascii_hexdigit(),
        b'w' => byte.is_ascii_alphanumeric(),
        other => other == byte,
    };
    // Only a letter, a digit or a fixed text begins a form.
    let first = |rest: &str| match start {
        "" => rest.find(|letter: char| letter.is_ascii_digit()),
        start => rest.find(start).map(|at| at + start.len()),
    };
    let (mut kept, mut rest) = (String::new(), text);
    while let Some(at) = first(rest) {
        let (before, candidate) = rest.split_at(at);
        kept.push_str(before);
        let bytes = candidate.as_bytes();
        let found = bytes.len() >= form.len() && form.bytes().zip(bytes).all(|(form, byte)| is(form, *byte));
        let end = if found {
            let last = form.as_bytes()[form.len() - 1];
            form.len() + bytes[form.len()..].iter().take_while(|byte| is(last, **byte)).count()
        } else {
            candidate.chars().next().map_or(0, char::len_utf8)
        };
        kept.push_str(if found { "*" } else { &candidate[..end] });
        rest = &candidate[end..];
        if rest.is_empty() {
            break;
        }
    }
    kept + rest
}

/// Returns names for the commits that the run has created: digests of what they contain except times and ids.
fn new_commits(folder: &Path, known: &HashSet<Oid>) -> Option<HashMap<String, String>> {
    let mut contents: BTreeMap<String, String> = BTreeMap::new();
    if folder.exists() {
        let base = Odb::new().ok()?;
        base.add_disk_alternate(folder.to_str()?).ok()?;
        let mut ids = Vec::new();
        base.foreach(|id| {
            ids.push(*id);
            true
        })
        .ok()?;
        for id in ids.iter().filter(|id| !known.contains(id)) {
            let object = base.read(*id).ok()?;
            if object.kind() == ObjectType::Commit {
                contents.insert(id.to_string(), String::from_utf8(object.data().to_vec()).ok()?);
            }
        }
    }
    // A commit is named once its parents are.
    let mut names = HashMap::new();
    while names.len() < contents.len() {
        let before = names.len();
        for (id, content) in &contents {
            let waits = contents.keys().any(|other| !names.contains_key(other) && content.contains(other));
            if !names.contains_key(id) && !waits {
                let digest = blake3::hash(common(content.as_bytes(), &names).as_bytes()).to_hex();
                names.insert(id.clone(), format!("commit-{}", &digest[..32]));
            }
        }
        (names.len() > before).then_some(())?;
    }
    Some(names)
}

/// Returns an index without times and inodes. Whether they are those of the files decides what git reads again.
fn index(bytes: &[u8], at: &Path, own: &Metadata) -> Option<String> {
    let number = |from: usize| Some(u32::from_be_bytes(bytes.get(from..from + 4)?.try_into().ok()?));
    let (content, digest) = bytes.split_at_checked(bytes.len().checked_sub(20)?)?;
    if !content.starts_with(b"DIRC\0\0\0\x02") || openssl::sha::sha1(content) != digest {
        return None;
    }
    let worktree = at.parent()?.parent()?;
    let (mut text, mut from) = (String::new(), 12);
    for _ in 0..number(8)? {
        let fields: Vec<u32> = (0..10).map(|field| number(from + 4 * field)).collect::<Option<_>>()?;
        let name = bytes.get(from + 62..)?.split(|byte| *byte == 0).next()?;
        let path = worktree.join(OsStr::from_bytes(name));
        let found = fs::symlink_metadata(&path);
        let found = found.as_ref().map_or([0; 9], |stat| {
            let low = |wide: u64| u32::try_from(wide & 0xffff_ffff).unwrap_or_default();
            let time = |time: i64| low(time.cast_unsigned());
            [
                time(stat.ctime()),
                time(stat.ctime_nsec()),
                time(stat.mtime()),
                time(stat.mtime_nsec()),
                low(stat.dev()),
                low(stat.ino()),
                stat.uid(),
                stat.gid(),
                low(stat.size()),
            ]
        });
        let compared = [0, 1, 2, 3, 4, 5, 7, 8, 9];
        let same: Vec<bool> = compared.iter().zip(found).map(|(field, found)| fields[*field] == found).collect();
        // If it is true, git reads the file only if it is not older than the index, which matters if the content differs.
        let unread = same.iter().all(|same| *same) && {
            let content = fs::read(&path).unwrap_or_default();
            let id = Oid::hash_object(ObjectType::Blob, &content).ok()?;
            bytes.get(from + 40..from + 60)? != id.as_bytes()
        };
        let racy = (i64::from(fields[2]), i64::from(fields[3])) >= (own.mtime(), own.mtime_nsec());
        let rest = bytes.get(from + 40..from + 62)?;
        let (mode, owner, size) = (fields[6], (fields[7], fields[8]), fields[9]);
        writeln!(text, "{mode:o} {owner:?} {size} {rest:?} {name:?} {same:?} {unread} {}", unread && racy).ok()?;
        from += (62 + name.len()) / 8 * 8 + 8;
    }
    write!(text, "{:?}", content.get(from..)?).ok()?;
    Some(blake3::hash(text.as_bytes()).to_string())
}

#[cfg(test)]
fn state(bench: &mut Bench) -> blake3::Hash {
    let seen = bench.look();
    bench.state_of(&seen).expect("nothing is running")
}

#[test]
fn whatever_a_rerun_could_notice_makes_another_state() {
    let mut bench = Bench::conflicting();
    let mut seen = HashSet::new();
    for _ in 0..2 {
        bench.reset();
        bench.run().run().exits(0);
        seen.insert(state(&mut bench));
    }
    assert_eq!(seen.len(), 1, "two runs that do the same leave the same state");
    let plants = [
        "cd ~/.local/state/provision/runs; for run in *.jsonl; do mv $run ${run%.jsonl}.running; done",
        "echo '{}' >> ~/.local/state/provision/runs/*.running",
        "echo x > ~/.local/state/provision/locks/*.lock",
        "chmod 600 airflow_poc/docker-compose.yml",
        "chmod 640 .git/config",
        "ln airflow_poc/docker-compose.yml ~/link",
        "echo more >> airflow_poc/dags/notes.txt",
        "touch -d 2020-01-01 airflow_poc/dags/late.py",
        "echo x > airflow_poc/.provision-0123456789ab-0123456789abcdef",
        "echo x > airflow_poc/.provision-0123456789ab-0123456789abcdee",
        "echo planted | git hash-object -w --stdin",
        "git update-ref refs/provision/rescue/planted HEAD",
        "git -c user.name=o -c user.email=o@example.com commit -q --allow-empty -m planted",
        "git config planted.key value",
        "git update-index --force-remove airflow_poc/dags/late.py",
        "mkdir -m 700 /dev/shm/provision-fetch-planted",
        "setfattr -n user.planted -v x airflow_poc/docker-compose.yml",
        "setfacl -m u:git:r airflow_poc/docker-compose.yml",
    ];
    for plant in plants {
        bench.sandbox.bash("ubuntu", &format!("cd {CHECKOUT}; {plant}"));
        let state = state(&mut bench);
        assert!(seen.insert(state), "{plant}");
    }
    for plant in [
        "CREATE TABLE settlement_ods.planted (id int)",
        "GRANT SELECT ON settlement_ods.planted TO PUBLIC",
        "ALTER TABLE settlement_ods.planted OWNER TO etl",
    ] {
        bench.sandbox.sql(plant);
        assert!(seen.insert(state(&mut bench)), "{plant}");
    }
    // Names that differ only in their random part are equal.
    bench.sandbox.bash(
        "ubuntu",
        &format!("cd {CHECKOUT}/airflow_poc; mv .provision-*cdee .provision-0123456789ab-fedcba9876543210"),
    );
    assert!(!seen.insert(state(&mut bench)));
}

#[test]
fn a_check_is_left_out_only_after_one_in_the_same_state_found_nothing_wrong() {
    let mut bench = Bench::fresh();
    bench.states = Some(States::default());
    bench.reset();
    let seen = bench.look();
    for checked in [Checked::Complete, Checked::Rerun] {
        let mut checks = 0;
        let failed = bench.unless_known(checked, &seen, |_| Err("it does not converge".to_owned()));
        assert!(failed.is_err());
        for _ in 0..2 * AGAIN + 1 {
            bench
                .unless_known(checked, &seen, |_| {
                    checks += 1;
                    Ok(())
                })
                .unwrap();
        }
        assert_eq!(checks, 3, "the first time, and then every twentieth time");
    }
    let states = bench.states.as_ref().unwrap();
    assert_eq!((states.reruns, states.comparisons), (2 * AGAIN - 2, 2 * AGAIN - 2));
    bench.sandbox.bash("root", "echo planted > /srv/planted");
    let seen = bench.look();
    bench.unless_known(Checked::Rerun, &seen, |_| Err("a new state".to_owned())).unwrap_err();
}
