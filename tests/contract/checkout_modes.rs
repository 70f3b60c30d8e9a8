//! The modes in a checkout are those that git would give: by the umask of whoever runs the step, and `core.sharedRepository`.

use crate::sandbox::{PROVISION, Sandbox};

const PLAN: &str = "name: m
steps:
  - { id: code, repository: { path: /home/ubuntu/app, url: /srv/git/app.git, branch: main } }
  - { id: dir, directory: { path: /home/ubuntu/made/deep } }
";

fn host() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("/home/ubuntu/m.yaml", "ubuntu", PLAN);
    sandbox.bash(
        "root",
        "chown ubuntu: /srv/git; usermod -aG etl mallory 2>/dev/null || sed -i 's/^etl:.*/&,mallory/' /etc/group",
    );
    sandbox.bash("ubuntu", "git config --global user.name u; git config --global user.email u; git init -q --bare -b main /srv/git/app.git; git clone -q /srv/git/app.git up 2>/dev/null");
    up(&sandbox, "first", "mkdir -p d; echo 1 > a.txt; echo 1 > d/b.txt; echo '#!/bin/sh' > run.sh; chmod +x run.sh");
    sandbox
}

fn up(sandbox: &Sandbox, message: &str, script: &str) {
    sandbox.bash(
        "ubuntu",
        &format!("cd up; {script}; git add -A; git commit -qm '{message}'; git push -q origin HEAD:main"),
    );
}

fn apply(sandbox: &Sandbox, umask: &str) {
    sandbox.bash("ubuntu", &format!("umask {umask}; {PROVISION} apply m.yaml --yes"));
}

/// Returns the modes in a checkout by path, without what only one of the two programs writes.
fn modes(sandbox: &Sandbox, top: &str) -> Vec<String> {
    let all = sandbox.bash("ubuntu", &format!("cd {top}; find . -printf '%m %y %P\\n' | sort -k3"));
    let same = |line: &&str| {
        let path = line.split(' ').nth(2).unwrap_or_default();
        let (objects, other) = (
            path.starts_with(".git/objects/"),
            ["hooks", "branches", "info", "description", "packed-refs", "refs/remotes/origin/main"],
        );
        // Objects may be loose or in packs.
        !objects && !other.iter().any(|name| path.starts_with(&format!(".git/{name}"))) && !path.ends_with("_HEAD")
    };
    all.lines().filter(same).map(str::to_owned).collect()
}

#[test]
fn a_clone_and_an_update_follow_the_umask_as_git_does() {
    for umask in ["022", "002", "000", "027", "077"] {
        let sandbox = host();
        let git = |command: &str| sandbox.bash("ubuntu", &format!("umask {umask}; {command}"));
        apply(&sandbox, umask);
        git("git clone -q /srv/git/app.git theirs");
        assert_eq!(modes(&sandbox, "app"), modes(&sandbox, "theirs"), "a clone with umask {umask}");
        up(
            &sandbox,
            "more",
            "echo 2 > a.txt; mkdir -p n/m; echo 1 > n/m/new; echo '#!/bin/sh' > n/new.sh; chmod +x n/new.sh",
        );
        apply(&sandbox, umask);
        git("git -C theirs pull -q");
        assert_eq!(modes(&sandbox, "app"), modes(&sandbox, "theirs"), "an update with umask {umask}");
        // A restored file is as git would write it, and other kinds do not depend on who starts them.
        git("echo mine > app/a.txt");
        up(&sandbox, "again", "echo 3 > a.txt");
        apply(&sandbox, umask);
        let id = git("git -C app for-each-ref --format='%(refname:lstrip=3)' refs/provision/rescue");
        let (id, want) = (id.trim(), git("touch probe; stat -c %a probe"));
        git(&format!("{PROVISION} rescue restore m.yaml {id}"));
        let private = umask == "077";
        assert_eq!(git("stat -c %a app/a.txt"), if private { "600\n".to_owned() } else { want });
        assert_eq!(sandbox.bash("ubuntu", "stat -c %a made/deep"), "755\n");
    }
}

/// In a directory with the setgid bit, or with an access control list for new entries, the kernel gives a file that is created there
/// other rights than one that is moved there.
#[test]
fn a_clone_and_an_update_inherit_from_directories_as_git_does() {
    let directories = [
        ("chgrp etl shared; chmod 2775 shared", "is not a member"),
        ("chgrp etl shared; chmod 2775 shared; usermod -aG etl ubuntu", "is a member"),
        ("setfacl -d -m u:mallory:rwx,g:etl:rwx,o::- shared", "list"),
        ("chgrp etl shared; chmod 2770 shared; setfacl -d -m g:etl:rwx shared", "both"),
    ];
    for (prepare, name) in directories {
        let sandbox = host();
        sandbox.bash("root", "gpasswd -d ubuntu etl 2>/dev/null || true");
        sandbox.bash("root", &format!("cd /home/ubuntu; install -d -o ubuntu -g ubuntu shared; {prepare}"));
        sandbox.write("/home/ubuntu/m.yaml", "ubuntu", PLAN.replace("/home/ubuntu/app", "/home/ubuntu/shared/app"));
        let git = |command: &str| sandbox.bash("ubuntu", command);
        // Some files are written by one of the two programs only.
        let own =
            ["objects", "hooks", "branches", "info", "description", "packed-refs", "*_HEAD", "refs/remotes/origin/*"];
        let own: String = own.map(|name| format!("-path './.git/{name}' -prune -o ")).concat();
        let rights = |top: &str, left_out: &str| {
            let list = format!("find . {own} {left_out} ! -type l -print0 | sort -z | xargs -0 getfacl -cp | cat -s");
            git(&format!("cd {top}; find . {own} {left_out} -printf '%P %g %m\\n' | sort; {list}"))
        };
        let same = |left_out: &str, when: &str| {
            assert_eq!(rights("shared/app", left_out), rights("shared/theirs", left_out), "{name}: {when}");
        };
        apply(&sandbox, "022");
        git("git clone -q /srv/git/app.git shared/theirs");
        same("", "a clone");
        up(
            &sandbox,
            "more",
            "echo 2 > a.txt; mkdir -p n/m; echo 1 > n/m/new; ln -s a.txt link; echo 2 > run.sh; git tag -a v1 -m v1; git push -q origin v1",
        );
        apply(&sandbox, "022");
        git("git -C shared/theirs pull -q");
        same("", "an update");
        // Only a part of the tree inherits.
        for top in ["app", "theirs"] {
            git(&format!(
                "chmod g-s shared/{top} shared/{top}/d; setfacl -bR shared/{top}; setfacl -d -m u:mallory:rw shared/{top}/n"
            ));
        }
        up(&sandbox, "last", "echo 3 > a.txt; echo 2 > n/m/new; echo 2 > n/other; echo 2 > d/b.txt");
        apply(&sandbox, "022");
        git("git -C shared/theirs pull -q");
        same("-path ./.git -prune -o", "an update of a part");
    }
}

/// In a clone by root only root gets write access, with every umask. `sudo` adds 022 as well (sudoers(5), umask). The directories
/// above the checkout have the same modes as the parents of other steps.
#[test]
fn what_root_clones_is_roots_alone() {
    for umask in ["000", "002", "022", "077"] {
        let mut sandbox = host();
        ["key_source", "repo_url"].into_iter().for_each(|name| sandbox.unset_var(name));
        sandbox.bash("root", "git config --global safe.directory '*'; install -d -m 755 /home/roots");
        let plan = "name: m\nsteps:\n  - { id: code, repository: { path: /home/roots/new/deep/app, url: /srv/git/app.git, branch: main } }\n";
        sandbox.write("/home/roots/m.yaml", "root", plan);
        let apply = |command: &str| {
            let line = format!("umask {umask}; exec {PROVISION} {command}");
            sandbox.command("root", ["bash", "-c", &line]).run().exits(0)
        };
        apply("apply /home/roots/m.yaml --yes");
        apply("plan /home/roots/m.yaml --detailed-exitcode");
        up(&sandbox, "more", "echo 2 > a.txt; mkdir -p n/m; echo 1 > n/m/new; echo 1 > n/run; chmod +x n/run");
        apply("apply /home/roots/m.yaml --yes");
        apply("plan /home/roots/m.yaml --detailed-exitcode");
        let exposed = sandbox.bash("root", "find /home/roots ! -type l -perm /022");
        assert_eq!(exposed, "", "umask {umask}");
        let modes = sandbox
            .bash("root", "cd /home/roots/new; stat -c %a . deep deep/app deep/app/n deep/app/n/m/new deep/app/n/run");
        let inside = if umask == "077" { "700\n700\n600\n700" } else { "755\n755\n644\n755" };
        assert_eq!(modes, format!("755\n755\n{inside}\n"), "umask {umask}");
    }
}

#[test]
fn the_parents_of_a_clone_do_not_depend_on_the_umask() {
    for umask in ["000", "002", "027", "077"] {
        let sandbox = host();
        sandbox.write("/home/ubuntu/m.yaml", "ubuntu", PLAN.replace("/home/ubuntu/app", "/home/ubuntu/new/deep/app"));
        apply(&sandbox, umask);
        assert_eq!(sandbox.bash("ubuntu", "stat -c %a new new/deep"), "755\n755\n", "umask {umask}");
    }
}

/// Where threads cannot have a umask of their own (unshare(2) is denied in many containers), one change at a time has that of the
/// user.
#[test]
fn clones_at_the_same_time_follow_the_umask_where_threads_share_it() {
    let mut sandbox = host();
    ["key_source", "repo_url"].into_iter().for_each(|name| sandbox.unset_var(name));
    up(&sandbox, "many", "mkdir -p many/{1..30}; touch many/{1..30}/{1..10}");
    let step = |n| {
        format!(
            "  - {{ id: c{n}, repository: {{ path: /home/ubuntu/apps/{n}, url: /srv/git/app.git, branch: main }} }}\n"
        )
    };
    let plan = format!("name: m\nsteps:\n{}", (1..=4).map(step).collect::<String>());
    sandbox.write("/home/ubuntu/many.yaml", "ubuntu", plan);
    for _ in 0..3 {
        let line = format!(
            "umask 077; rm -rf apps; exec strace -f -qq -o /tmp/calls -e trace=unshare -e inject=unshare:error=EPERM \
             {PROVISION} apply many.yaml --yes"
        );
        sandbox.command("ubuntu", ["bash", "-c", &line]).run().exits(0);
        assert!(sandbox.read("/tmp/calls").contains("INJECTED"), "unshare was not denied");
        assert_eq!(sandbox.bash("ubuntu", "find apps/* ! -type l -perm /077"), "");
    }
}

/// A colleague of the group goes on with `git pull` after each update.
#[test]
fn a_shared_checkout_stays_shared() {
    for (value, umask) in [("group", "022"), ("group", "077"), ("all", "027"), ("0660", "022")] {
        let sandbox = host();
        sandbox.bash(
            "ubuntu",
            &format!(
                "chmod 755 .; install -d -m 2775 -g etl app; umask 002; git clone -q -c core.sharedRepository={value} /srv/git/app.git app
                find app -type d -exec chmod 2775 {{}} +; chgrp -R etl app; chmod -R g+w app"
            ),
        );
        sandbox.bash("mallory", "git config --global safe.directory '*'");
        let pull = || sandbox.bash("mallory", "umask 002; git -C /home/ubuntu/app pull -q --ff-only");
        up(&sandbox, "two", "echo 2 > a.txt; mkdir -p n; echo 1 > n/new; git tag -a v2 -m v2; git push -q origin v2");
        sandbox.bash("ubuntu", "echo mine > app/a.txt");
        apply(&sandbox, umask);
        assert_eq!(sandbox.bash("ubuntu", "git -C app tag"), "v2\n");
        let closed = "find app/.git ! -type l \\( -type d ! -perm -2070 -o ! -group etl -o -type f ! -perm -040 \\) ! -path '*provision-private*'";
        assert_eq!(sandbox.bash("ubuntu", closed), "", "{value} {umask}");
        let narrow = "find app/.git -type f ! -path '*/objects/*' ! -perm -060 ! -path '*provision-private*'";
        assert_eq!(sandbox.bash("ubuntu", narrow), "", "{value} {umask}");
        up(&sandbox, "three", "echo 3 > d/b.txt");
        pull();
        up(&sandbox, "four", "echo 4 > d/b.txt");
        sandbox.bash("mallory", "chmod g+w /home/ubuntu/app/d/b.txt || true");
        apply(&sandbox, umask);
        up(&sandbox, "five", "echo 5 > a.txt; echo 5 > e.txt");
        // The working tree follows the umask alone, as with git.
        sandbox.bash("ubuntu", "find app -path app/.git -prune -o -user ubuntu -exec chmod g+rwX {} +");
        pull();
        assert_eq!(sandbox.read("/home/ubuntu/app/e.txt"), "5\n");
    }
}
