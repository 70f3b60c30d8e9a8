use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::host::testing::folder;

/// Returns what a walk visits, in order.
fn visited(top: &Path, left_out: &LeftOut, ahead: bool) -> Vec<String> {
    let mut met = Vec::new();
    let visit = |visit: Visit<'_>| {
        met.push(match visit {
            Visit::Entry(entry) => {
                format!("{} {:?} {:o} {}", entry.path().display(), entry.kind, entry.mode, entry.links)
            }
            Visit::Mount(path) => format!("mount {}", path.display()),
            Visit::Failed(path, error) => format!("failed {} {error}", path.display()),
        });
        Ok(())
    };
    let dir = Dir::open(top).unwrap();
    if ahead { survey(&dir, left_out, visit) } else { walk(&dir, left_out, visit) }.unwrap();
    met
}

fn make(top: &Path, depth: usize, width: usize, files: usize) {
    for file in 0..files {
        std::fs::write(top.join(format!("file-{file}")), "").unwrap();
    }
    for folder in 0..if depth == 0 { 0 } else { width } {
        let folder = top.join(format!("folder-{folder}"));
        std::fs::create_dir(&folder).unwrap();
        make(&folder, depth - 1, width, files);
    }
}

#[test]
fn a_survey_visits_the_same_entries_in_the_same_order_as_a_walk() {
    for (depth, width, files) in [(0, 0, 0), (0, 0, 3000), (1, 40, 60), (4, 5, 3), (2, 12, 0), (60, 1, 30)] {
        let folder = folder();
        make(folder.path(), depth, width, files);
        let left_out = || {
            let whole = [(Path::new("folder-0/folder-1"), true), (Path::new("folder-2/file-1"), false)];
            let entry = [(Path::new("folder-3"), false)];
            let excludes = |path: &Path| path.ends_with("file-2") || path.ends_with("folder-2/folder-4");
            LeftOut::new(whole.into_iter().chain(entry)).excluding(excludes)
        };
        for left_out in [LeftOut::default(), left_out()] {
            let (one_by_one, ahead) =
                (visited(folder.path(), &left_out, false), visited(folder.path(), &left_out, true));
            assert_eq!(ahead, one_by_one, "depth {depth}, width {width}, {files} files");
            assert_eq!(ahead.iter().collect::<BTreeSet<_>>().len(), ahead.len(), "every entry once");
        }
    }
}

#[test]
fn a_survey_opens_a_limited_number_of_directories() {
    let folder = folder();
    make(folder.path(), 3, 12, 2);
    let mine = folder.path().to_owned();
    let (mut most, mut met) = (0, 0);
    survey(&Dir::open(folder.path()).unwrap(), &LeftOut::default(), |_| {
        met += 1;
        if met % 50 == 0 {
            let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            most =
                most.max(open.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.starts_with(&mine))).count());
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(met, 12 * 12 * 12 * 3 + 12 * 12 * 3 + 12 * 3 + 2);
    // Opened ahead, on the way down, and by each helper at its work.
    assert!(most <= 64 + OPEN_LEVELS + 24, "{most} directories open");
}

#[test]
fn a_survey_ends_with_the_first_error() {
    let folder = folder();
    make(folder.path(), 2, 10, 20);
    let mut left = 1000;
    let ended = survey(&Dir::open(folder.path()).unwrap(), &LeftOut::default(), |_| {
        left -= 1;
        if left == 0 { Err(Error::refused("found", "stop")) } else { Ok(()) }
    });
    assert!(ended.unwrap_err().to_string().contains("found"));
}

/// The entries of the directory need several system calls, and the last ones find that it is gone.
#[test]
fn a_directory_that_is_removed_during_the_walk_ends_there() {
    for ahead in [false, true] {
        let top = tempfile::tempdir().unwrap();
        let many = top.path().join("many");
        std::fs::create_dir(&many).unwrap();
        (0..3000).for_each(|number| std::fs::write(many.join(number.to_string()), "").unwrap());
        let open = Dir::open(top.path()).unwrap();
        let mut seen = 0;
        let mut visit = |_: Visit<'_>| {
            seen += 1;
            if seen == 1 {
                std::fs::remove_dir_all(&many).unwrap();
            }
            Ok(())
        };
        let result = if ahead {
            survey(&open, &LeftOut::default(), &mut visit)
        } else {
            walk(&open, &LeftOut::default(), &mut visit)
        };
        assert_eq!(result, Ok(()), "{ahead}");
        assert!((2..3000).contains(&seen), "{seen}");
    }
}

#[test]
fn the_folders_of_this_program_are_recognised_by_what_is_in_them() {
    let folder = folder();
    let own = ["home/a/.local/state/provision", "srv/state/provision", "app/.git/provision-private", "odd/provision"];
    let parts = ["rescues", "runs", "id", "follow_ups"];
    let others = ["app/provision/roles", "app/provision-private/runs", "home/a/.local/state/other/runs", "b/provision"];
    for (name, part) in own.iter().zip(parts).chain(others.iter().map(|name| (name, ""))) {
        std::fs::create_dir_all(folder.path().join(name).join(part)).unwrap();
        std::fs::write(folder.path().join(name).join(part).join("file"), "").unwrap();
    }
    std::fs::write(folder.path().join("app/.git/HEAD"), "").unwrap();
    std::fs::create_dir(folder.path().join("srv/state/provision/bin")).unwrap();
    std::fs::write(folder.path().join("srv/state/provision/note"), "").unwrap();
    for ahead in [false, true] {
        let mut found = Vec::new();
        let visit = |visit: Visit<'_>| {
            if let Visit::Entry(entry) = visit {
                let path = entry.path();
                let is_within = own.iter().any(|own| path.starts_with(own));
                assert_eq!(entry.own != Own::No, is_within, "{path:?}");
                if entry.own == Own::Folder {
                    found.push(path.display().to_string());
                }
            }
            Ok(())
        };
        let (dir, left_out) = (Dir::open(folder.path()).unwrap(), LeftOut::default().with_own_folders(folder.path()));
        if ahead { survey(&dir, &left_out, visit) } else { walk(&dir, &left_out, visit) }.unwrap();
        found.sort();
        let mut expected = own.to_vec();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }
}
