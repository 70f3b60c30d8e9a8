//! The commands of docs/many-hosts.md, on hosts with an sshd each.

use std::path::Path;

use crate::sandbox::{Fleet, PROVISION};

const PLAN: &str = "
name: web
steps:
  - id: data
    directory: { path: /home/ubuntu/data, mode: \"0750\" }
  - id: password
    compose_env: { file: /home/ubuntu/compose.yaml, variable: PASSWORD, value: { env: SMTP_PASSWORD } }
";
const COMPOSE: &str = "services:\n  web:\n    image: x\n    environment:\n      PASSWORD: old\n";

/// Returns the blocks of bash in a section of the page.
fn blocks(section: &str) -> Vec<String> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/many-hosts.md")).unwrap();
    let (_, rest) = page.split_once(&format!("\n## {section}\n")).unwrap_or_else(|| panic!("no section {section}"));
    let text = rest.split_once("\n## ").map_or(rest, |(text, _)| text);
    text.split("```bash\n").skip(1).map(|rest| rest.split_once("```").unwrap().0.to_owned()).collect()
}

/// Returns three hosts with `provision` in their search path, the last of which cannot be planned in full.
fn fleet() -> Fleet {
    let fleet = Fleet::new(3);
    fleet.write("plan.yaml", PLAN);
    fleet.write("hosts.txt", "h1\nh2\nh3\n");
    // OpenSSH ignores HOME.
    let ssh = format!("#!/bin/sh\nexec /usr/bin/ssh -F '{}' \"$@\"\n", fleet.path("ssh_config").display());
    fleet.write("bin/ssh", &ssh);
    let link = fleet.path("bin/provision");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_provision"), link).unwrap();
    let made = fleet.on_controller("chmod").args(["755", "bin/ssh"]).status().unwrap();
    assert!(made.success());
    let programs = Path::new(PROVISION).parent().unwrap().display();
    for host in &fleet.hosts {
        host.write("/home/ubuntu/compose.yaml", "ubuntu", COMPOSE);
        let line = format!(
            "echo 'SetEnv PATH={programs}:/usr/bin:/bin' >>/etc/ssh/sshd_config; kill -HUP $(cat /run/sshd.pid)"
        );
        host.bash("root", &line);
        host.write("/etc/provision/plan.yaml", "root", PLAN);
    }
    fleet.hosts[2].write("/home/ubuntu/data", "ubuntu", "");
    fleet
}

/// Runs a block on the controller and returns what it prints.
fn run(fleet: &Fleet, block: &str) -> String {
    let path = format!("{}:/usr/bin:/bin", fleet.path("bin").display());
    let mut command = fleet.on_controller("bash");
    command.args(["-c", block]).env("PATH", path).env("SMTP_PASSWORD", "fresh-word").env("NO_COLOR", "1");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text + &String::from_utf8_lossy(&output.stderr)
}

/// The report of a block groups `h1` and `h2`, and says what is wrong with `h3`.
fn reports_three_hosts(text: &str) {
    assert!(["h1", "h2", "h3"].iter().all(|host| text.contains(host)), "{text}");
    assert!(text.contains("/home/ubuntu/data is a file, not a directory"), "{text}");
}

#[test]
fn the_loop_with_ssh_and_xargs_plans_and_applies() {
    let fleet = fleet();
    // ssh fails for the first host, and xargs starts the others one after another.
    fleet.write("hosts.txt", "h0\nh1\nh2\nh3\n");
    let [plan, apply]: [String; 2] = blocks("ssh and xargs").try_into().unwrap();
    let one_by_one = |block: &str| run(&fleet, &block.replace("-P 20", "-P 1"));
    let planned = one_by_one(&plan);
    reports_three_hosts(&planned);
    assert!(planned.contains("no result  h0  "), "{planned}");
    assert!(!fleet.hosts[0].path("/home/ubuntu/data").exists());
    reports_three_hosts(&one_by_one(&apply));
    assert!(fleet.hosts[1].path("/home/ubuntu/data").is_dir());
}

#[test]
fn a_request_carries_secrets_to_each_host() {
    let fleet = fleet();
    let [block] = blocks("Secrets").try_into().unwrap();
    let text = run(&fleet, &block);
    // ssh in a loop would read the list of hosts if it did not get a request.
    reports_three_hosts(&text);
    assert!(!text.contains("fresh-word"), "{text}");
    for host in &fleet.hosts {
        assert!(host.read("/home/ubuntu/compose.yaml").contains("PASSWORD: fresh-word"));
    }
}

#[test]
fn parallel_and_pdsh_plan_on_every_host() {
    let fleet = fleet();
    for section in ["GNU parallel", "pdsh"] {
        let [block] = blocks(section).try_into().unwrap();
        reports_three_hosts(&run(&fleet, &block));
        std::fs::remove_dir_all(fleet.path("plans")).unwrap();
    }
}
