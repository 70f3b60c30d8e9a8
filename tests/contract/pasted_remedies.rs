//! Remedies of all kinds: each is pasted on a host in the state that it is for, until the run succeeds without a warning.
//!
//! The names on these hosts have what a shell or a terminal gives a meaning: blanks, quotes, backticks, `$`, tabs, escapes.

use crate::sandbox::{Outcome, PROVISION, Sandbox};

const TOP: &str = "/home/ubuntu/it's `a` \"top\" $HOME\t\u{1b}[2J ~";

/// The user who starts the program and pastes what it prints.
const USER: &str = "ubuntu";

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn sandbox() -> Sandbox {
    let mut sandbox = Sandbox::new();
    ["key_source", "repo_url"].into_iter().for_each(|name| sandbox.unset_var(name));
    sandbox.bash(USER, &format!("mkdir {}", quoted(TOP)));
    sandbox
}

/// Runs lines of bash in the directory of the test.
fn bash(sandbox: &Sandbox, script: &str) -> String {
    sandbox.bash(USER, &format!("cd {}; {script}", quoted(TOP)))
}

fn run(sandbox: &Sandbox, words: &[&str]) -> Outcome {
    sandbox.command(USER, [&[PROVISION], words].concat()).env("PW", "new").directory(TOP).run()
}

/// Pastes what the program prints until it succeeds without a warning. Returns what was pasted.
#[track_caller]
fn repair(sandbox: &Sandbox, name: &str, words: &[&str]) -> Vec<String> {
    let mut pasted = Vec::new();
    loop {
        let outcome = run(sandbox, words);
        if outcome.code == 0 && !outcome.all().contains("warning:") {
            return pasted;
        }
        assert!(pasted.len() < 5, "{name}: {pasted:#?}\n{outcome}");
        // Docker is not on these hosts, and a rescue is not a remedy.
        let mut commands = outcome.commands();
        commands.retain(|command| !command.starts_with("docker ") && !command.contains(" rescue restore "));
        assert!(!commands.is_empty(), "{name}: no remedy\n{outcome}");
        for command in commands {
            let result = sandbox.command(USER, ["bash", "-c", &command]).directory("/").run();
            assert!(result.code == 0, "{name}\n{outcome}\n{result}");
            pasted.push(command);
        }
    }
}

fn write(sandbox: &Sandbox, name: &str, text: &str) {
    sandbox.command(USER, ["tee", name]).directory(TOP).stdin(text).run().exits(0);
}

/// Returns a plan file with this step and another one, in which `@` is the directory of the test.
fn plan_file(step: &str) -> String {
    let top = serde_json::to_string(TOP).unwrap();
    let text = format!(
        "name: broken\nsteps:\n  - id: it\n    {step}\n  - id: other\n    directory: {{ path: \"@/else/where\" }}\n"
    );
    text.replace('@', &top[1..top.len() - 1])
}

const FILE: &str = r#"file: { path: "@/f", content: "new\n", mode: "0600" }"#;
const KEY: &str = r#"key_file: { path: "@/k", source: { file: "@/source" } }"#;
const SECRET: &str = r#"file: { path: "@/f", content: "{{ secret('s') }}\n", secrets: { s: { file: "@/secret" } } }"#;
const COMMAND: &str =
    r#"file: { path: "@/f", content: "{{ secret('s') }}\n", secrets: { s: { command: ["@/program"] } } }"#;
const COMPOSE: &str = r#"compose_env: { file: "@/c.yaml", variable: PW, value: { env: PW } }"#;

/// The name, what breaks the host, the step, and the start of the remedy.
const STEPS: &[(&str, &str, &str, &str)] = &[
    ("a file that its owner cannot read", "echo old > f; chmod 0 f", FILE, "chmod u+r "),
    (
        "a file of root that its user cannot read",
        "echo old > f; sudo -n chown root:root f; sudo -n chmod 600 f",
        FILE,
        "sudo chown ",
    ),
    ("a file that is too large to keep", "truncate -s 100M f", FILE, "mv -T "),
    ("a directory in place of a file", "mkdir -p f/x f.aside", FILE, "mv -T "),
    ("an empty directory in place of a file", "mkdir f", FILE, "rmdir "),
    ("a hard link", "echo new > f; chmod 644 f; ln f other", FILE, "sudo find "),
    ("a file in place of a directory", "touch d", r#"directory: { path: "@/d" }"#, "mv -T "),
    ("a FIFO above a directory", "mkfifo d", r#"directory: { path: "@/d/e" }"#, "mv -T "),
    (
        "a broken repository that is a mount point",
        "git init -q --bare r; git -C r -c user.name=x -c user.email=x commit-tree -m x $(git -C r write-tree) > c
         git -C r update-ref refs/heads/main $(cat c); mkdir m; sudo -n mount -t tmpfs -o mode=755,uid=$(id -u) none m
         git clone -q -b main r m; echo nonsense > m/.git/HEAD",
        r#"repository: { path: "@/m", url: "@/r", branch: main }"#,
        "mv -T --backup=numbered ",
    ),
    ("a dangling symlink above a directory", "ln -s nowhere d", r#"directory: { path: "@/d/e" }"#, "rm "),
    ("an immutable file", "echo old > f; sudo -n chattr +i f", FILE, "sudo chattr -i "),
    ("an append-only file", "echo old > f; sudo -n chattr +a f", FILE, "sudo chattr -a "),
    (
        "an immutable entry of a tree",
        "mkdir d; touch d/x; chmod 600 d/x; sudo -n chattr +i d/x",
        r#"directory: { path: "@/d", file_mode: "0640", recursive: true, owner: ubuntu }"#,
        "sudo chattr -i -a ",
    ),
    (
        "a read-only mount",
        "mkdir m; sudo -n mount -t tmpfs -o ro,mode=777 none m",
        r#"file: { path: "@/m/f", content: x }"#,
        "sudo mount -o remount,rw ",
    ),
    ("a secret that everybody can read", "chmod a+x ~; echo pw > secret; chmod 644 secret", SECRET, "chmod o= "),
    ("a program that cannot be started", "printf '#!/bin/sh\\necho pw\\n' > program", COMMAND, "chmod +x "),
    (
        "a password in a file that everybody can read",
        "chmod a+x ~; printf 'services:\\n  a:\\n    image: x\\n    environment:\\n      PW: old\\n' > c.yaml; chmod 644 c.yaml",
        COMPOSE,
        "chmod o-r ",
    ),
    (
        "a directory in place of the file with the values",
        "printf 'services:\\n  a:\\n    image: x\\n    environment:\\n      PW: ${PW}\\n' > c.yaml; chmod 600 c.yaml; mkdir .env",
        COMPOSE,
        "rmdir ",
    ),
    (
        "a template that its owner cannot read",
        "echo x > t.j2; chmod 0 t.j2",
        r#"file: { path: "@/f", template: t.j2 }"#,
        "chmod u+r ",
    ),
    (
        "a template of root",
        "echo x > t.j2; sudo -n chown root t.j2; sudo -n chmod 600 t.j2",
        r#"file: { path: "@/f", template: t.j2 }"#,
        "sudo chmod a+r ",
    ),
    (
        "a tree that its owner cannot enter",
        "mkdir -p d/e; touch d/e/f; chmod 600 d/e",
        r#"directory: { path: "@/d", recursive: true, file_mode: "0600" }"#,
        "chmod u+rx ",
    ),
    ("no such owner", "true", "run_as: root\n    directory: { path: /tmp/d, owner: deployer }", "sudo useradd "),
    ("no such group", "true", "run_as: root\n    directory: { path: /tmp/d, group: deployers }", "sudo groupadd "),
    ("no such user", "true", "run_as: runner\n    directory: { path: /tmp/of-runner }", "sudo useradd --create-home "),
    ("a directory in place of a key", "ssh-keygen -q -t ed25519 -N '' -f source; mkdir -p k/x", KEY, "mv -T "),
    ("CRLF in a key", "ssh-keygen -q -t ed25519 -N '' -f source; sed -i 's/$/\\r/' source", KEY, "sed -i "),
    ("an indented key", "ssh-keygen -q -t ed25519 -N '' -f source; sed -i 's/^/  /' source", KEY, "sed -i "),
    (
        "a key in UTF-16",
        "ssh-keygen -q -t ed25519 -N '' -f s; iconv -f ASCII -t UTF-16LE s > source; chmod 600 source",
        KEY,
        "cp -p ",
    ),
    ("a key in DER", "openssl genrsa 2048 2> /dev/null | openssl pkey -outform DER -out source", KEY, "cp -p "),
    (
        "a key with literal line endings",
        "ssh-keygen -q -t ed25519 -N '' -f s; sed -z 's/\\n/\\\\n/g' s > source; chmod 600 source",
        KEY,
        "cp -p ",
    ),
];

#[test]
fn remedies_of_steps_work_when_they_are_pasted() {
    for (name, broken, step, remedy) in STEPS {
        let sandbox = sandbox();
        bash(&sandbox, broken);
        write(&sandbox, "plan.yaml", &plan_file(step));
        let pasted = repair(&sandbox, name, &["apply", "plan.yaml", "--yes"]);
        assert!(pasted.iter().any(|command| command.starts_with(remedy)), "{name}: {pasted:#?}");
        assert!(run(&sandbox, &["plan", "plan.yaml"]).exits(0).stdout.contains("Nothing to change"), "{name}");
    }
}

/// The name, what breaks the host, the arguments, and the start of the remedy.
const COMMANDS: &[(&str, &str, &[&str], &str)] = &[
    ("two plan files", "cp plan.yaml provision.yaml; cp plan.yaml provision.yml", &["plan"], PROVISION),
    ("no plan file", "mv plan.yaml Plan.YAML", &["plan"], PROVISION),
    ("no file at all", "rm plan.yaml", &["validate"], PROVISION),
    ("a closed folder of plan files", "mkdir plans; mv plan.yaml plans; chmod 0 plans", &["plan"], "chmod u+rx "),
    ("a plan file that its owner cannot read", "chmod 0 plan.yaml", &["plan", "plan.yaml"], "chmod u+r "),
    ("metrics in a missing directory", "true", &["plan", "plan.yaml", "--metrics", "no such/m.prom"], "mkdir -p "),
    ("a log in a missing directory", "true", &["plan", "plan.yaml", "--log-file=-no such/log"], "mkdir -p "),
    ("a timeline in a missing directory", "true", &["plan", "plan.yaml", "--timeline", "no `such`/t"], "mkdir -p "),
    (
        "a log that others can read",
        "/opt/provision/bin/provision plan plan.yaml -v --log-file l; chmod 644 l",
        &["plan", "plan.yaml", "-v", "--log-file", "l"],
        "chmod 600 ",
    ),
    ("a saved plan in a missing directory", "true", &["plan", "plan.yaml", "--out", "no such/saved"], "mkdir -p "),
    (
        "a saved plan that exists",
        "/opt/provision/bin/provision plan plan.yaml --out='-x y' > /dev/null",
        &["plan", "plan.yaml", "--out=-x y"],
        "rm ",
    ),
    (
        "damaged follow-ups",
        "printf 'services:\\n  a:\\n    image: x\\n    environment:\\n      PW: old\\n' > ~/c.yaml; chmod 600 ~/c.yaml
         printf 'name: x\\nsteps:\\n  - id: it\\n    compose_env: { file: /home/ubuntu/c.yaml, variable: PW, value: { env: PW } }\\n' \
         > plan.yaml
         PW=new /opt/provision/bin/provision apply plan.yaml --yes
         for f in ~/.local/state/provision/follow_ups/*; do echo nonsense > $f; done",
        &["follow-ups", "plan.yaml"],
        "mv -T ",
    ),
];

#[test]
fn remedies_of_commands_work_when_they_are_pasted() {
    for (name, broken, words, remedy) in COMMANDS {
        let sandbox = sandbox();
        write(&sandbox, "plan.yaml", &plan_file(FILE));
        bash(&sandbox, broken);
        let outcome = run(&sandbox, words).exits(1);
        let commands = outcome.commands();
        assert!(commands.iter().any(|command| command.starts_with(remedy)), "{name}: {commands:#?}\n{outcome}");
        for command in commands {
            let result = sandbox.command(USER, ["bash", "-c", &command]).directory(TOP).run();
            assert!(result.code == 0, "{name}\n{outcome}\n{result}");
        }
        // What suggests another plan file does not change the host.
        if *remedy != PROVISION {
            run(&sandbox, words).exits(0);
        }
    }
}

#[test]
fn a_plan_file_of_root_is_read_through_a_pipe() {
    let sandbox = sandbox();
    write(&sandbox, "plan.yaml", &plan_file(FILE));
    bash(&sandbox, "sudo -n chown root plan.yaml; sudo -n chmod 600 plan.yaml");
    let refused = run(&sandbox, &["plan", "plan.yaml"]).exits(1);
    let result = sandbox.command(USER, ["bash", "-c", &refused.commands()[0]]).directory(TOP).run().exits(0);
    assert!(result.stdout.contains("2 steps to change"), "{refused}\n{result}");
}

#[test]
fn what_stands_in_the_way_of_a_rescued_file_is_moved_aside() {
    for broken in ["rm f; mkdir f", "mv ../top .. 2> /dev/null || true; rm -r d"] {
        let sandbox = sandbox();
        let step = if broken.ends_with('d') { FILE.replace("/f", "/d/f") } else { FILE.to_owned() };
        bash(&sandbox, "mkdir d; echo mine > f; echo mine > d/f");
        write(&sandbox, "plan.yaml", &plan_file(&step));
        let applied = run(&sandbox, &["apply", "plan.yaml", "--yes"]).exits(0);
        bash(&sandbox, broken);
        let restore = applied.commands().into_iter().find(|command| command.contains(" rescue restore ")).unwrap();
        let restored = || sandbox.command(USER, ["bash", "-c", &restore]).directory(TOP).run();
        for command in restored().exits(1).commands() {
            sandbox.command(USER, ["bash", "-c", &command]).directory(TOP).run().exits(0);
        }
        let done = restored().exits(0);
        // The command that deletes the rescue.
        for command in done.commands() {
            sandbox.command(USER, ["bash", "-c", &command]).directory(TOP).run().exits(0);
        }
        assert_eq!(run(&sandbox, &["rescue", "list", "plan.yaml"]).exits(0).stdout, "no rescues\n");
    }
}

/// Root may have no sudo, as in a container.
#[test]
fn remedies_for_root_need_no_sudo() {
    let sandbox = sandbox();
    sandbox.bash("root", "mkdir /srv/d; touch /srv/d/f; chattr +i /srv/d/f");
    let step = "run_as: ubuntu\n    file: { path: /srv/d/f, content: x }";
    for step in [
        step,
        "run_as: root\n    file: { path: /srv/d/f, content: x }",
        "run_as: nobody-here\n    directory: { path: /srv/e }",
    ] {
        let planned = sandbox.command("root", [PROVISION, "plan", "-"]).stdin(&plan_file(step)).run();
        assert!(!planned.all().contains("sudo"), "{planned}");
    }
}
