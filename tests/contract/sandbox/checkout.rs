//! What the shipped plan file works on: the remote, the checkout, the key, the password; and the runbook itself, as
//! somebody who follows it would type it.

use super::run::PATH;
use super::warehouse::random_word;
use super::{Outcome, Sandbox};

/// The remote that the checkout is pulled from; it lies on the host itself.
pub const BARE: &str = "/srv/git/s3-redshift-backup-tool.git";
/// Where the shipped plan file has the checkout.
pub const CHECKOUT: &str = "/home/ubuntu/etl/etl_dw/s3-redshift-backup-tool";
/// Where it has Airflow's logs.
pub const LOGS: &str = "/home/ubuntu/etl/etl_dw/s3-redshift-backup-tool/airflow_poc/logs";
/// The file that holds the mail password.
pub const COMPOSE: &str = "/home/ubuntu/etl/etl_dw/s3-redshift-backup-tool/airflow_poc/docker-compose.yml";
/// Where the bastion's key belongs.
pub const KEY: &str = "/home/ubuntu/etl/etl_dw/ssh/jasleentung.pem";
/// Where the key was copied to, for installing it.
pub const KEY_SOURCE: &str = "/home/ubuntu/jasleentung.pem";

impl Sandbox {
    /// A new server of the pipeline: the remote, the marts, the key and the password are there, and no step is done.
    pub fn order_tracking() -> Self {
        Self::new().remote().warehouse().key().smtp_password()
    }

    /// The same after everything has been done once by hand, at the remote's head.
    pub fn converged() -> Self {
        let sandbox = Self::new().remote();
        let converged = sandbox.place_converged();
        // Copied files have other inodes than the index has of them: git looks at them again, and remembers.
        sandbox.git("status --porcelain");
        sandbox.start_warehouse().var("key_source", KEY_SOURCE).env("ALERT_SMTP_PASSWORD", &converged.smtp_password)
    }

    /// Makes the remote with `main` and `jasleen_qa`, and names it in `repo_url`.
    pub fn remote(self) -> Self {
        self.place_remote();
        self.var("repo_url", BARE)
    }

    /// Makes a private key and names it in `key_source`.
    pub fn key(self) -> Self {
        self.new_key();
        self.var("key_source", KEY_SOURCE)
    }

    /// Makes up the password of the alert mails.
    pub fn smtp_password(self) -> Self {
        let password = random_word();
        self.env("ALERT_SMTP_PASSWORD", password)
    }

    /// Puts a new key in the source's place: a rotation.
    pub fn new_key(&self) {
        self.bash("ubuntu", &format!("rm -f {KEY_SOURCE}*; ssh-keygen -q -t ed25519 -N '' -f {KEY_SOURCE}"));
    }

    /// Somebody else commits a file to `jasleen_qa` and pushes it.
    pub fn commit(&self, file: &str, content: &str) {
        let argv = ["/opt/provision/scripts/services", "commit", file];
        self.command("root", argv).stdin(content).run().exits(0);
    }

    /// Somebody else removes a file from `jasleen_qa`.
    pub fn commit_removal(&self, file: &str) {
        self.bash("root", &format!("/opt/provision/scripts/services remove {file}"));
    }

    /// `git` in the checkout, as its owner; gives what it prints.
    pub fn git(&self, args: &str) -> String {
        let identity = "-c user.name=operator -c user.email=operator@example.com";
        self.bash("ubuntu", &format!("cd {CHECKOUT}; git {identity} {args}"))
    }

    /// Clones the checkout, as the runbook takes it for granted.
    pub fn checkout(&self) {
        self.bash("ubuntu", &format!("mkdir -p {CHECKOUT}; git clone -q -b jasleen_qa {BARE} {CHECKOUT}"));
    }

    /// What git says of the checkout: head, branch, index, status, stashes, refs. Ours alone are left out: those of
    /// rescues.
    pub fn repository_state(&self) -> String {
        self.bash(
            "ubuntu",
            &format!(
                "cd {CHECKOUT}
                echo head; cat .git/HEAD; git rev-parse HEAD
                echo index; git ls-files --stage
                echo status; git status --porcelain=v1 --untracked-files=all
                echo stashes; git stash list
                echo refs; git for-each-ref --format='%(refname) %(objectname) %(upstream) %(symref)' |
                    sed '/^refs\\/provision\\//d'"
            ),
        )
    }

    /// The names of the rescues that the checkout keeps.
    pub fn rescues(&self) -> Vec<String> {
        let refs = self.git("for-each-ref refs/provision --format='%(refname)'");
        refs.lines().map(str::to_owned).collect()
    }

    /// Follows the runbook by hand, as `ubuntu`: its own commands where it gives any, in the order in which they can
    /// succeed. A step whose secret is not given is left out, as the plan file leaves its target alone.
    pub fn runbook(&self) -> Outcome {
        let mut run = self.command("ubuntu", ["bash", "-uo", "pipefail", "-c", RUNBOOK]);
        for name in ["REDSHIFT_URL", "REDSHIFT_PASSWORD", "ALERT_SMTP_PASSWORD"] {
            run = run.env(name, self.env.get(name).cloned().unwrap_or_default());
        }
        // With the same `psql` as `sql`.
        run = run.env("PATH", format!("/opt/provision/bin:{PATH}"));
        run.env("REPO_URL", BARE).env("KEY_SOURCE", self.vars.get("key_source").cloned().unwrap_or_default()).run()
    }
}

const RUNBOOK: &str = r#"
etl=/home/ubuntu/etl/etl_dw
repo=$etl/s3-redshift-backup-tool
ask() { PGPASSWORD=$REDSHIFT_PASSWORD psql "$REDSHIFT_URL" -XAtq -v ON_ERROR_STOP=1 "$@" || exit 1; }

# 6. the checkout. The runbook's dance, for the switch of the branch as well as for the pull.
if [ ! -d $repo/.git ]; then
    mkdir -p $repo
    git clone -q -b jasleen_qa "$REPO_URL" $repo || exit 1
fi
cd $repo
git config user.name operator
git config user.email operator@example.com
stashed=
git checkout -q jasleen_qa || { git stash -q && stashed=yes && git checkout -q jasleen_qa; } || exit 1
git pull -q || { git stash -q && stashed=yes && git pull -q; } || exit 1
[ -z "$stashed" ] || git stash drop -q || exit 1
git config --unset user.name
git config --unset user.email
git config --remove-section user 2>/dev/null

# 1. the logs directory
mkdir -p $repo/airflow_poc/logs || exit 1
# The group of what is below is left to Airflow, whose image writes with group 0.
sudo chown -R 50000 $repo/airflow_poc/logs && sudo chgrp 50000 $repo/airflow_poc/logs || exit 1

# 2. the key. -f: a key of mode 0400 is not written over by cp alone.
mkdir -p $etl/ssh || exit 1
if [ -n "$KEY_SOURCE" ] && ! cmp -s "$KEY_SOURCE" $etl/ssh/jasleentung.pem; then
    cp -f "$KEY_SOURCE" $etl/ssh/jasleentung.pem || exit 1
fi
chmod 400 $etl/ssh/jasleentung.pem || exit 1

# 3. the password
if [ -n "$ALERT_SMTP_PASSWORD" ]; then
    sed -i "s/\(ALERT_SMTP_PASSWORD: \"\)[^\"]*/\1$ALERT_SMTP_PASSWORD/" $repo/airflow_poc/docker-compose.yml || exit 1
fi

# 4. the history tables. The runbook stops at 2026_h1; the plan file keeps one period more, and so does its list here.
for table in uni_tracking_info ecs_order_info uni_tracking_spath; do
    for period in 2025_h2 2026_h1 2026_h2; do
        name=settlement_ods.hist_${table}_$period
        [ -n "$(ask -c "SELECT to_regclass('$name')")" ] || ask -c "CREATE TABLE $name (LIKE settlement_ods.mart_$table)"
    done
done

# 5. the exceptions table
[ -n "$(ask -c "SELECT to_regclass('settlement_ods.order_tracking_exceptions')")" ] ||
    ask -c "CREATE TABLE settlement_ods.order_tracking_exceptions (
        order_id VARCHAR(64), exception_type VARCHAR(64) NOT NULL, detected_at TIMESTAMP NOT NULL,
        resolved_at TIMESTAMP, notes VARCHAR(1024))"
exit 0
"#;
