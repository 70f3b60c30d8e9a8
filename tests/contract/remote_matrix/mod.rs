//! A remote is reached where `git ls-remote` of the same user reaches it, and is sent the same: each transport with each way
//! to configure it.

mod cells;

use std::collections::{BTreeMap, BTreeSet};

use crate::sandbox::{Outcome, PROVISION, Sandbox, Snapshot};
use cells::{Answer, Cell, ENVIRONMENTS, PASSWORD, authorization, cells, ssh_config};

/// How many plans, or processes of git, run at once.
const AT_ONCE: usize = 4;

/// Prepares the host: two repositories, one of them a commit ahead, and their servers.
const SETUP: &str = "
printf '127.0.0.1 localhost throwaway git.corp.test\\n127.0.0.2 other.corp.test\\n' > /etc/hosts
ip addr add fd00::2/128 dev lo
mkdir -p /srv/tls; cd /srv/tls
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=git.corp.test -addext \
    subjectAltName=DNS:git.corp.test,DNS:other.corp.test,DNS:*.far.invalid,IP:127.0.0.1,IP:127.0.0.2,IP:::1,IP:fd00::2 \
    -keyout key -out certificate 2>/dev/null
chmod 644 key
mkdir -p /srv/git; mkdir /srv/log; chown ubuntu: /srv/git /srv/log
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/matrix
cat > /etc/ssh/matrix_config <<'CONF'
ListenAddress 127.0.0.1
ListenAddress ::1
HostKey /etc/ssh/matrix
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
LogLevel VERBOSE
MaxStartups 100
KexAlgorithms curve25519-sha256
CONF
for name in git.corp.test localhost 127.0.0.1 ::1; do echo \"$name $(cut -d' ' -f1,2 /etc/ssh/matrix.pub)\"; done > /tmp/known_hosts
/usr/sbin/sshd -f /etc/ssh/matrix_config -E /var/log/matrix
";

const SETUP_OF_THE_USER: &str = "
git init -q --bare -b main /srv/git/app.git
git clone -q /srv/git/app.git up 2>/dev/null; cd up
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a
echo one > a.txt; git add -A; git commit -qm first; git push -q origin HEAD:main
git clone -q --bare /srv/git/app.git /srv/git/other.git
echo two > a.txt; git commit -qam second; git push -q /srv/git/other.git HEAD:main
cd; rm -rf up; git clone -q --template= --shared /srv/git/app.git template; git -C template remote remove origin
mkdir -m 700 .ssh; ssh-keygen -q -t ed25519 -N '' -f .ssh/id_ed25519; cp /tmp/known_hosts .ssh/
echo \"command=\\\"/home/ubuntu/serve\\\" $(cat .ssh/id_ed25519.pub)\" > .ssh/authorized_keys
cat > serve <<'SERVE'
#!/bin/bash
set -- $SSH_ORIGINAL_COMMAND
path=${2//\\'/}
[ \"$1\" = git-upload-pack ] || exit 1
IFS=/ read -r _ _ cell name <<< \"$path\"
set -- $SSH_CONNECTION
echo \"$cell ssh $USER@$3 - -\" >> /srv/log/ssh
exec git-upload-pack /srv/git/$name
SERVE
chmod 755 serve
cat > ask <<'ASK'
#!/bin/bash
cd cells/$1
git ls-remote origin refs/heads/main > /home/ubuntu/answers/$1 2> /home/ubuntu/answers/$1.error
ASK
chmod 755 ask
";

struct Matrix {
    sandbox: Sandbox,
    cells: Vec<Cell>,
}

impl Matrix {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        sandbox.bash("root", SETUP);
        sandbox.bash("ubuntu", SETUP_OF_THE_USER);
        // git jumps, and may do nothing else.
        sandbox.bash(
            "root",
            "install -d -m 700 -o git -g git /home/git/.ssh; (printf restrict,port-forwarding' '; cat /home/ubuntu/.ssh/id_ed25519.pub) > /home/git/.ssh/authorized_keys; chown git: /home/git/.ssh/authorized_keys",
        );
        sandbox.write("/home/ubuntu/server.py", "ubuntu", include_str!("server.py"));
        let matrix = Self { sandbox, cells: cells() };
        let ids: BTreeSet<&str> = matrix.cells.iter().map(|cell| cell.id.as_str()).collect();
        assert_eq!(ids.len(), matrix.cells.len());
        let copies =
            format!("mkdir cells answers; for cell in {}; do cp -a template cells/$cell; done", matrix.ids().join(" "));
        matrix.sandbox.bash("ubuntu", &copies);
        matrix
    }

    fn ids(&self) -> Vec<&str> {
        self.cells.iter().map(|cell| cell.id.as_str()).collect()
    }

    /// Writes the configuration of all cells. git stores and erases passwords, so it is written before each run.
    fn configure(&self) {
        let write = |path: &str, content: &str| std::fs::write(self.sandbox.path(path), content).unwrap();
        let netrc = ["other.corp.test", "127.0.0.2", "git.example"]
            .map(|host| format!("machine {host} login deploy password {PASSWORD}\n"));
        write("/home/ubuntu/.netrc", &netrc.concat());
        write("/home/ubuntu/.gitconfig", &self.cells.iter().map(|cell| cell.global.as_str()).collect::<String>());
        let (own, other) = ssh_config();
        write("/home/ubuntu/.ssh/config", &own);
        write("/home/ubuntu/ssh_config", &other);
        for cell in &self.cells {
            let git = format!("/home/ubuntu/cells/{}/.git", cell.id);
            let base = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n";
            let remote = format!("[remote \"origin\"]\n{}\tfetch = +refs/heads/*:refs/remotes/origin/*\n", cell.remote);
            write(&format!("{git}/config"), &format!("{base}{remote}{}", cell.config));
            for (name, content) in &cell.files {
                write(&format!("{git}/{name}"), content);
            }
        }
        self.sandbox
            .bash("root", "chown -R ubuntu: /home/ubuntu; chmod 600 /home/ubuntu/.netrc /home/ubuntu/.ssh/config");
        self.sandbox.bash("root", ": > /srv/log/ssh; chmod 666 /srv/log/ssh; : > /var/log/matrix");
    }

    /// Returns what the servers were sent, by cell, and the logins by ssh.
    fn sent(&self) -> (BTreeMap<String, BTreeSet<String>>, Vec<String>) {
        let mut sent: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for line in self.sandbox.bash("root", "cat /srv/log/ssh /srv/log/web").lines() {
            let (cell, what) = line.split_once(' ').unwrap();
            sent.entry(cell.into()).or_default().insert(what.into());
        }
        self.sandbox.bash("root", ": > /srv/log/web");
        let words = "grep -oE '(Accepted|Failed) publickey for [a-z]+|Invalid user.*' /var/log/matrix | sort -u";
        (sent, self.sandbox.bash("root", words).lines().map(str::to_owned).collect())
    }

    /// Runs `git ls-remote` in each cell.
    fn ask_git(&self) -> BTreeMap<&str, Answer> {
        for (number, environment) in ENVIRONMENTS.iter().enumerate() {
            let ids: Vec<&str> =
                self.cells.iter().filter(|cell| cell.environment == number).map(|cell| cell.id.as_str()).collect();
            let set: String = environment.iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect();
            let script = format!(
                "{set}export GIT_TERMINAL_PROMPT=0; echo {} | xargs -n1 -P{AT_ONCE} ./ask || true",
                ids.join(" ")
            );
            self.sandbox.bash("ubuntu", &script);
        }
        let answers = self
            .sandbox
            .bash("ubuntu", "cd answers; for cell in $(ls | grep -v error); do echo \"$cell $(cut -f1 $cell)\"; done");
        let head = |name: &str| self.sandbox.bash("ubuntu", &format!("git -C /srv/git/{name}.git rev-parse main"));
        let (current, newer) = (head("app"), head("other"));
        let answers: BTreeMap<&str, &str> = answers.lines().filter_map(|line| line.split_once(' ')).collect();
        let reach = |cell: &str| match answers[cell] {
            "" => Answer::Nothing,
            head if head == current.trim() => Answer::Current,
            head if head == newer.trim() => Answer::Newer,
            head => panic!("{cell}: {head}"),
        };
        self.ids().into_iter().map(|cell| (cell, reach(cell))).collect()
    }

    /// Plans all cells.
    fn plan(&self) -> Vec<Outcome> {
        let mut running = Vec::new();
        for (number, environment) in ENVIRONMENTS.iter().enumerate() {
            let cells: Vec<&Cell> = self.cells.iter().filter(|cell| cell.environment == number).collect();
            let share = if number == 0 { cells.len().div_ceil(AT_ONCE) } else { cells.len() };
            for (part, cells) in cells.chunks(share).enumerate() {
                let steps: String = cells
                    .iter()
                    .map(|cell| {
                        format!(
                            "  - {{ id: {0}, repository: {{ path: /home/ubuntu/cells/{0}, branch: main }} }}\n",
                            cell.id
                        )
                    })
                    .collect();
                let file = format!("/tmp/{number}-{part}.yaml");
                self.sandbox.write(&file, "ubuntu", format!("name: m\nsteps:\n{steps}"));
                let mut run = self.sandbox.command("ubuntu", [PROVISION, "plan", &file, "--json"]);
                for (name, value) in *environment {
                    run = run.env(name, *value);
                }
                running.push(run.start());
            }
        }
        running.into_iter().map(crate::sandbox::Running::wait).collect()
    }
}

#[test]
fn plan_reaches_what_git_reaches_and_sends_what_git_sends() {
    let matrix = Matrix::new();
    let header = authorization();
    let argv = ["python3", "server.py", "/srv/tls/certificate", "/srv/tls/key", "/srv/log/web", &header];
    let mut server = matrix.sandbox.command("ubuntu", argv).start();
    server.until(|line| line == "ready\n");

    matrix.configure();
    let reached = matrix.ask_git();
    let (sent_by_git, logins_of_git) = matrix.sent();
    matrix.configure();
    let before = Snapshot::take(&matrix.sandbox, "/home/ubuntu", &[]);
    let plans = matrix.plan();
    let after = Snapshot::take(&matrix.sandbox, "/home/ubuntu", &[]);
    let (sent, logins) = matrix.sent();

    let mut outcomes = BTreeMap::new();
    for plan in &plans {
        assert!(![PASSWORD, &header[6..], "proxy-pass"].iter().any(|secret| plan.all().contains(secret)), "{plan}");
        outcomes.extend(
            plan.events_of("step_planned").into_iter().map(|step| (step["step"].as_str().unwrap().to_owned(), step)),
        );
    }
    let mut wrong = Vec::new();
    for cell in &matrix.cells {
        let step = &outcomes[&cell.id];
        let planned = match step["outcome"].as_str().unwrap() {
            "unchanged" => Answer::Current,
            "changes" => Answer::Newer,
            _ => Answer::Nothing,
        };
        let (git, ours) = (sent_by_git.get(&cell.id), sent.get(&cell.id));
        if reached[cell.id.as_str()] != cell.reach {
            let error = matrix.sandbox.bash("ubuntu", &format!("cat answers/{}.error", cell.id));
            wrong.push(format!("{}: git reaches {:?}: {error}", cell.id, reached[cell.id.as_str()]));
        }
        if planned != reached[cell.id.as_str()] || git != ours {
            wrong.push(format!(
                "{}: git {:?} {git:?}, plan {planned:?} {ours:?}: {step}",
                cell.id,
                reached[cell.id.as_str()]
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cells:\n{}", wrong.len(), matrix.cells.len(), wrong.join("\n"));
    assert_eq!(logins, logins_of_git);
    before.is_same_as(&after, "a plan stores and erases no password, and writes no known_hosts");
}
