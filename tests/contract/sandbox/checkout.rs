//! The environment of the shipped plan file: the remote, the checkout, the key, the password, and the runbook itself as
//! a person would type it.

use super::run::PATH;
use super::warehouse::random_word;
use super::{Outcome, Sandbox};

/// The remote that the checkout pulls from. It is on the host itself.
pub const BARE: &str = "/srv/git/s3-redshift-backup-tool.git";
/// The path of the checkout in the shipped plan file.
pub const CHECKOUT: &str = "/home/ubuntu/etl/etl_dw/s3-redshift-backup-tool";
/// The path of Airflow's logs.
pub const LOGS: &str = "/home/ubuntu/etl/etl_dw/s3-redshift-backup-tool/airflow_poc/logs";
/// The file that contains the mail password.
pub const COMPOSE: &str = "/home/ubuntu/etl/etl_dw/s3-redshift-backup-tool/airflow_poc/docker-compose.yml";
/// The path of the bastion's key.
pub const KEY: &str = "/home/ubuntu/etl/etl_dw/ssh/jasleentung.pem";
/// The path where the key was copied to before it is installed.
pub const KEY_SOURCE: &str = "/home/ubuntu/jasleentung.pem";

impl Sandbox {
    /// A new server of the pipeline: the remote, the marts, the key and the password exist, and no step is done.
    pub fn order_tracking() -> Self {
        Self::new().remote().warehouse().key().smtp_password()
    }

    /// The same after everything has been done once manually, at the remote's head.
    pub fn converged() -> Self {
        let sandbox = Self::new().remote();
        let converged = sandbox.place_converged();
        // Copied files have other inodes than in the index, so git compares them again and updates the index.
        sandbox.git("status --porcelain");
        sandbox.start_warehouse().var("key_source", KEY_SOURCE).env("ALERT_SMTP_PASSWORD", &converged.smtp_password)
    }

    /// Creates the remote with `main` and `jasleen_qa`, and sets `repo_url`.
    pub fn remote(self) -> Self {
        self.place_remote();
        self.var("repo_url", BARE)
    }

    /// Creates a private key and sets `key_source`.
    pub fn key(self) -> Self {
        self.new_key();
        self.var("key_source", KEY_SOURCE)
    }

    /// Generates the password of the alert mails.
    pub fn smtp_password(self) -> Self {
        let password = random_word();
        self.env("ALERT_SMTP_PASSWORD", password)
    }

    /// Replaces the source by a new key: a rotation.
    pub fn new_key(&self) {
        self.bash("ubuntu", &format!("rm -f {KEY_SOURCE}*; ssh-keygen -q -t ed25519 -N '' -f {KEY_SOURCE}"));
    }

    /// Commits a file to `jasleen_qa` and pushes it, as another person.
    pub fn commit(&self, file: &str, content: &str) {
        let argv = ["/opt/provision/scripts/services", "commit", file];
        self.command("root", argv).stdin(content).run().exits(0);
    }

    /// Removes a file from `jasleen_qa`, as another person.
    pub fn commit_removal(&self, file: &str) {
        self.bash("root", &format!("/opt/provision/scripts/services remove {file}"));
    }

    /// Runs `git` in the checkout as its owner and returns the output.
    pub fn git(&self, args: &str) -> String {
        let identity = "-c user.name=operator -c user.email=operator@example.com";
        self.bash("ubuntu", &format!("cd {CHECKOUT}; git {identity} {args}"))
    }

    /// Clones the checkout, which the runbook requires.
    pub fn checkout(&self) {
        self.bash("ubuntu", &format!("mkdir -p {CHECKOUT}; git clone -q -b jasleen_qa {BARE} {CHECKOUT}"));
    }

    /// Returns the state of the checkout according to git: head, branch, index, status, stashes and refs, except the
    /// refs of rescues.
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

    /// Returns the names of the rescues in the checkout.
    pub fn rescues(&self) -> Vec<String> {
        let refs = self.git("for-each-ref refs/provision --format='%(refname)'");
        refs.lines().map(str::to_owned).collect()
    }

    /// Follows the runbook manually as `ubuntu`: its own commands if it gives any, in the order in which they can
    /// succeed. A step without its secret is skipped, as the plan file leaves its target alone.
    pub fn runbook(&self) -> Outcome {
        let mut run = self.command("ubuntu", ["bash", "-uo", "pipefail", "-c", RUNBOOK]);
        for name in ["REDSHIFT_URL", "REDSHIFT_PASSWORD", "ALERT_SMTP_PASSWORD"] {
            run = run.env(name, self.env.get(name).cloned().unwrap_or_default());
        }
        // Uses the same `psql` as `sql`.
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
