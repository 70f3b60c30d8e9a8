//! Races: a neighbour exchanges names as fast as the kernel allows while root walks, writes and clones among them.
//! Everything outside the declared paths stays unchanged.
//!
//! The same neighbour defeats `chown -R` and `find -exec chown`, which proves that the harness works.

use std::cell::Cell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::sandbox::{Sandbox, Snapshot, Tracing, random_word};

/// The minimum number of exchanges in all scenarios, and in each of the five.
const ALL_SWAPS: u64 = 100_000;
const SWAPS: u64 = ALL_SWAPS / 5;
/// How long each scenario runs, and when it is given up.
const TIME: Duration = Duration::from_secs(5);
const TOO_LONG: Duration = Duration::from_secs(200);

/// The calls between which something can be exchanged, and the delay after each, in microseconds.
const GAPS: &str = "openat,statx,newfstatat,readlinkat,mkdirat,renameat2,mkdir,lstat,stat";
const SLOWLY: u32 = 150;

const ATTACKER: &str = "/opt/provision/bin/attacker";
const COUNT: &str = "/var/tmp/swaps";

/// The neighbour's program, one instruction per line, in a loop: `exchange A B`; `flicker A B`, there and back at once;
/// `litter DIRECTORY DECOY`, which exchanges temporary files in a directory for a decoy; `occupy PATH TARGET`, which
/// creates a directory there and then a link; `wait MICROSECONDS`, without which no run would ever get past its plan.
const PROGRAM: &str = "ATTACK";

/// The neighbour's process. It counts its exchanges in a file.
#[test]
#[ignore = "the other tests of this file start it"]
fn attacker() {
    let program = std::env::var_os(PROGRAM).expect("what to do");
    let lines: Vec<Vec<&OsStr>> = program
        .as_bytes()
        .split(|byte| *byte == b'\n')
        .map(|line| line.split(|byte| *byte == b' ').map(OsStr::from_bytes).collect())
        .collect();
    let exchange = |one: &Path, other: &Path| renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok();
    let original = std::env::var_os("ORIGINAL").unwrap_or_default().into_encoded_bytes();
    let mut swaps = 0_u64;
    for round in 0_u64.. {
        for line in &lines {
            let paths: Vec<&Path> = line[1..].iter().map(Path::new).collect();
            match line[0].to_str().unwrap() {
                "exchange" => swaps += u64::from(exchange(paths[0], paths[1])),
                "flicker" => {
                    swaps += u64::from(exchange(paths[0], paths[1]));
                    swaps += u64::from(exchange(paths[0], paths[1]));
                    // Root's writes in between have removed one of the two.
                    if let Ok(target) = std::fs::read_link(paths[0]) {
                        let _ = std::fs::remove_file(paths[0]).and_then(|()| std::fs::write(paths[0], &original));
                        let _ = std::fs::remove_file(paths[1]);
                        let _ = std::os::unix::fs::symlink(target, paths[1]);
                    }
                }
                "wait" => {
                    let start = Instant::now();
                    let time = Duration::from_micros(line[1].to_str().unwrap().parse().unwrap());
                    while start.elapsed() < time {
                        std::hint::spin_loop();
                    }
                }
                "litter" => {
                    for entry in std::fs::read_dir(paths[0]).into_iter().flatten().flatten() {
                        if entry.file_name().as_bytes().starts_with(b".provision-") {
                            swaps += u64::from(exchange(&entry.path(), paths[1]));
                        }
                    }
                }
                "occupy" => {
                    swaps += u64::from(std::fs::create_dir(paths[0]).is_ok());
                    let _ = std::fs::remove_dir(paths[0]);
                    swaps += u64::from(std::os::unix::fs::symlink(paths[1], paths[0]).is_ok());
                    let _ = std::fs::remove_file(paths[0]);
                }
                other => panic!("{other}?"),
            }
        }
        if round.is_multiple_of(64) {
            std::fs::write(COUNT, swaps.to_string()).unwrap();
        }
    }
}

/// A compose file, which also serves as any other file.
const VALUES: &str = "services:\n  web:\n    environment:\n      A: ${A}\n      C: ${C}\n      B: old\n";

/// A host with a victim in `/srv`, and a neighbour called mallory. The victim's file `linked` has hard links among
/// mallory's files.
struct Arena {
    sandbox: Sandbox,
    before: Snapshot,
    linked: Snapshot,
    /// Mallory's hard links to the victim's file.
    links: Vec<String>,
    /// What root does after each round, so that the next one has something to do.
    reset: Option<&'static str>,
}

impl Arena {
    /// `prepare` is run by mallory in their home directory. Then `links` become hard links to the victim's file.
    fn new(prepare: &str, links: &[&str]) -> Self {
        let sandbox = Sandbox::new();
        sandbox.bash(
            "root",
            "mkdir -p /srv/victim/inner /srv/linked; cd /srv/victim
            for n in {0..9}; do echo $n > $n; echo $n > inner/$n; done
            printf 'services:\\n  web:\\n    environment:\\n      A: ${A}\\n      C: ${C}\\n      B: old\\n' | tee docker-compose.yml > inner/docker-compose.yml
            printf 'A=old\\nC=old\\n' | tee .env > inner/.env; echo precious | tee key > inner/key; chmod 600 key inner/key
            echo A=linked > /srv/linked/file; chmod 644 /srv/linked/file
            ssh-keygen -q -t ed25519 -N '' -f /root/one; ssh-keygen -q -t ed25519 -N '' -f /root/two",
        );
        sandbox.bash("mallory", prepare);
        let program = sandbox.path(ATTACKER);
        let own = std::env::current_exe().unwrap();
        std::fs::hard_link(&own, &program).or_else(|_| std::fs::copy(&own, &program).map(drop)).unwrap();
        let (before, linked) = (Self::victim(&sandbox), Self::linked(&sandbox));
        let links = links.iter().map(ToString::to_string).collect();
        let arena = Self { sandbox, before, linked, links, reset: None };
        arena.relink();
        arena
    }

    /// Recreates mallory's hard links, because mallory loses those that were replaced.
    fn relink(&self) {
        let names = std::fs::metadata(self.sandbox.path("/srv/linked/file")).unwrap().nlink();
        if names == 1 + self.links.len() as u64 {
            return;
        }
        for link in &self.links {
            // From outside the host, because on it both are on different mounts.
            let (link, new) = (self.sandbox.path("/home/mallory").join(link), self.sandbox.path("/home/mallory/new"));
            std::fs::hard_link(self.sandbox.path("/srv/linked/file"), &new).unwrap();
            std::fs::rename(&new, link).unwrap();
            // If both are the same file, rename(2) does nothing.
            let _ = std::fs::remove_file(&new);
        }
    }

    fn victim(sandbox: &Sandbox) -> Snapshot {
        Snapshot::take(sandbox, "/srv/victim", &[])
    }

    /// Without times, because renaming a hard link changes them.
    fn linked(sandbox: &Sandbox) -> Snapshot {
        Snapshot::take(sandbox, "/srv/linked", &[]).without_traces()
    }

    fn is_unharmed(&self) -> bool {
        self.before.difference(&Self::victim(&self.sandbox)).is_empty()
            && self.linked.difference(&Self::linked(&self.sandbox)).is_empty()
    }

    fn swaps(&self) -> u64 {
        std::fs::read_to_string(self.sandbox.path(COUNT)).unwrap_or_default().parse().unwrap_or(0)
    }

    /// Runs `act` repeatedly as root, while mallory attacks with the program, until `enough`.
    fn fight(&self, program: &str, mut act: impl FnMut(&Sandbox, u64), enough: impl Fn(&Self, Duration) -> bool) {
        let argv = [ATTACKER, "races::attacker", "--exact", "--ignored", "--nocapture"];
        let attacker = self.sandbox.command("mallory", argv).env(PROGRAM, program).env("ORIGINAL", VALUES).start();
        let start = Instant::now();
        for round in 0.. {
            act(&self.sandbox, round);
            if enough(self, start.elapsed()) {
                break;
            }
            assert!(start.elapsed() < TOO_LONG, "{} swaps in {TOO_LONG:?}", self.swaps());
        }
        attacker.signal(Signal::SIGKILL);
        attacker.wait();
    }

    /// Runs `provision apply` on these steps repeatedly under attack. `vars` returns different variables for each
    /// round.
    #[track_caller]
    fn withstands(&self, what: &str, program: &str, steps: &str, vars: impl Fn(u64) -> [String; 2]) {
        self.sandbox.write("/root/plan.yaml", "root", format!("{FIRST}{steps}"));
        let (mut done, mut refused) = (0, 0);
        let begun = Cell::new(0);
        let act = |sandbox: &Sandbox, round: u64| {
            let [one, two] = vars(round);
            let first = format!("round={round}");
            let apply =
                sandbox.provision("root", ["apply", "plan.yaml", "--yes", "--json", "--var", &one, "--var", &two]);
            let apply = apply.args(["--var", &first]).env("VALUE", random_word()).within(TOO_LONG);
            // Every other run is slowed down between checks and actions, so that every gap is exposed.
            let outcome =
                if round.is_multiple_of(2) { apply.run() } else { apply.traced(&Tracing::slow(GAPS, SLOWLY)).0 };
            self.relink();
            let changes = outcome.events_of("change_started");
            begun.set(begun.get() + u32::from(changes.iter().any(|change| change["step"] != "first")));
            match outcome.code {
                0 => done += 1,
                1 => refused += 1,
                _ => panic!("it neither succeeds nor refuses\n{outcome}"),
            }
            if let Some(script) = self.reset {
                sandbox.bash("root", script);
            }
            assert!(
                self.is_unharmed(),
                "{what}: the victim was harmed\n{}{}\n{outcome}",
                self.before.difference(&Self::victim(sandbox)),
                self.linked.difference(&Self::linked(sandbox))
            );
        };
        // A run that notices an exchange while it plans refuses at once, and proves nothing about its writes.
        let enough = |arena: &Self, elapsed| elapsed > TIME && arena.swaps() >= SWAPS && begun.get() > 0;
        self.fight(program, act, enough);
        let runs = format!("{} applies, of which {} began to change and {done} succeeded", done + refused, begun.get());
        println!("races: {what}: {} swaps during {runs}", self.swaps());
    }
}

/// A step with something to do each time. The steps after it are planned when it is done and start at once, so they do
/// not need the host to be as it was planned, which mallory rarely allows.
const FIRST: &str = "
name: race
vars: { a: 0, b: 0, round: 0 }
steps:
  - id: first
    run_as: root
    directory: { path: \"/root/rounds/{{ round }}\" }
";

const NO_VARS: fn(u64) -> [String; 2] = |_| ["a=1".to_owned(), "b=1".to_owned()];

/// A tree of mallory's, with directories that are exchanged for links to the victim.
const FOLDERS: &str =
    "mkdir tree pool; for n in {0..19}; do mkdir tree/$n; touch tree/$n/{0..3}; ln -s /srv/victim/inner pool/$n; done";

fn folders() -> String {
    let lines: Vec<String> =
        (0..20).map(|n| format!("exchange /home/mallory/tree/{n} /home/mallory/pool/{n}")).collect();
    lines.join("\n")
}

/// Groups change instead of owners, so that mallory remains the owner and can continue.
const WALK: &str = "
  - id: walk
    after: [first]
    run_as: root
    directory: { path: /home/mallory/tree, group: \"{{ a }}\", recursive: true }
";

fn groups(round: u64) -> [String; 2] {
    [format!("a={}", 50_000 + round % 2), "b=1".to_owned()]
}

#[test]
fn walking_survives_directories_swapped_for_symlinks() {
    let arena = Arena::new(FOLDERS, &[]);
    arena.withstands("a walk among directories that become links", &folders(), WALK, groups);
}

const DEEP: &str = "/home/mallory/tree/deep";
const LINK: &str = "/home/mallory/pool/link";

#[test]
fn walking_survives_files_swapped_for_hard_links() {
    let arena =
        Arena::new("mkdir tree pool; touch tree/{a..z}; mkdir tree/deep; touch tree/deep/{a..z}", &["pool/link"]);
    let lines: Vec<String> = ('a'..='z')
        .map(|n| format!("exchange {DEEP}/{n} {LINK}\nwait 25\nexchange {DEEP}/{n} {LINK}\nwait 130"))
        .collect();
    arena.withstands("a walk among files that become hard links", &lines.join("\n"), WALK, groups);
}

#[test]
fn writing_a_key_survives_swapped_directories_and_targets() {
    let arena = Arena::new(
        "mkdir ssh; ln -s /srv/victim/inner ssh-link; ln -s /srv/victim/key ssh/decoy; touch ssh/key; mkdir pool; ln -s /srv/victim/key pool/link",
        &["pool/target", "pool/hard"],
    );
    let program = "litter /home/mallory/ssh /home/mallory/pool/link
exchange /home/mallory/ssh /home/mallory/ssh-link
wait 40
exchange /home/mallory/ssh /home/mallory/ssh-link
wait 600
litter /home/mallory/ssh /home/mallory/pool/hard
flicker /home/mallory/ssh/key /home/mallory/ssh/decoy
wait 100
exchange /home/mallory/ssh/key /home/mallory/pool/target
wait 40
exchange /home/mallory/ssh/key /home/mallory/pool/target
wait 100";
    let plan = "
  - id: key
    after: [first]
    run_as: root
    key_file: { path: /home/mallory/ssh/key, source: { file: \"/root/{{ a }}\" }, mode: \"{{ b }}\", owner: mallory }
";
    let vars = |round| {
        let (key, mode) = (["one", "two"][(round / 2 % 2) as usize], ["0400", "0600", "0440"][(round % 3) as usize]);
        [format!("a={key}"), format!("b={mode}")]
    };
    arena.withstands("a key written among exchanged names", program, plan, vars);
}

#[test]
fn writing_a_value_survives_swapped_directories_and_files() {
    let arena = Arena::new(
        "mkdir app pool; ln -s /srv/victim/inner app-link; cp /srv/victim/docker-compose.yml /srv/victim/.env app
        ln -s /srv/victim/docker-compose.yml app/decoy; ln -s /srv/victim/key pool/link",
        &["pool/env-hard"],
    );
    let program = "litter /home/mallory/app /home/mallory/pool/link
exchange /home/mallory/app /home/mallory/app-link
wait 40
exchange /home/mallory/app /home/mallory/app-link
wait 600
flicker /home/mallory/app/docker-compose.yml /home/mallory/app/decoy
wait 100
exchange /home/mallory/app/.env /home/mallory/pool/env-hard
wait 40
exchange /home/mallory/app/.env /home/mallory/pool/env-hard
wait 100";
    let plan = "
  - id: referred
    after: [first]
    run_as: root
    compose_env: { file: /home/mallory/app/docker-compose.yml, variable: A, value: { env: VALUE } }
  - id: mode-alone
    after: [first]
    run_as: root
    compose_env: { file: /home/mallory/app/docker-compose.yml, variable: C }
  - id: literal
    after: [first]
    run_as: root
    compose_env: { file: /home/mallory/app/docker-compose.yml, variable: B, value: { env: VALUE } }
";
    arena.withstands("a value written among exchanged names", program, plan, NO_VARS);
}

#[test]
fn a_clone_survives_a_user_who_creates_its_path_first() {
    let mut arena = Arena::new("true", &[]);
    // What was cloned belongs to root, whatever was there before.
    arena.reset = Some(
        "cd /srv/open
        for at in repo parent; do
            [ ! -L $at -a -O $at ] || continue
            [ -z \"$(find $at ! -user root)\" ]; rm -rf $at
        done",
    );
    arena.sandbox.bash("root", "/opt/provision/scripts/services remote; chown -R root: /srv/git");
    arena.sandbox.bash("root", "mkdir -m 1777 /srv/open");
    let program = "occupy /srv/open/repo /srv/victim/inner\noccupy /srv/open/parent /srv/victim/inner\nwait 200";
    let plan = format!(
        "
  - id: clone
    after: [first]
    run_as: root
    repository: {{ path: \"/srv/open/{{{{ a }}}}\", url: {}, branch: jasleen_qa }}
",
        crate::sandbox::BARE
    );
    let vars = |round| [format!("a={}", ["repo", "parent/repo"][(round % 2) as usize]), "b=1".to_owned()];
    arena.withstands("a clone among exchanged names", program, &plan, vars);
}

/// Asserts that mallory defeats a command line of root.
#[track_caller]
fn loses(arena: &Arena, program: &str, script: &str) {
    let act = |sandbox: &Sandbox, _| drop(sandbox.command("root", ["bash", "-c", script]).run());
    arena.fight(program, act, |arena, _| !arena.is_unharmed());
    println!("races: {script}: lost after {} swaps", arena.swaps());
}

#[test]
fn chown_is_defeated_by_hard_links() {
    let links: Vec<String> = (0..20).map(|n| format!("pool/{n}")).collect();
    let links: Vec<&str> = links.iter().map(String::as_str).collect();
    let arena = Arena::new("mkdir tree pool; touch tree/{0..19}", &links);
    let lines: Vec<String> =
        (0..20).map(|n| format!("exchange /home/mallory/tree/{n} /home/mallory/pool/{n}")).collect();
    loses(&arena, &lines.join("\n"), "chown -R :50000 /home/mallory/tree");
}

#[test]
fn chown_by_path_is_defeated_by_symlinks() {
    let arena = Arena::new(FOLDERS, &[]);
    loses(&arena, &folders(), "find /home/mallory/tree -exec chown :50000 {} +");
}
