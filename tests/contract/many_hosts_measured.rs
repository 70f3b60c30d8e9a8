//! Measures twenty hosts: the collection, ssh with xargs, `ansible.builtin.ping`, and Ansible's own modules for the same steps.
//!
//! ```text
//! cargo test --test contract twenty_hosts_are_measured -- --ignored --nocapture
//! ```

use std::fs;

use crate::sandbox::{Fleet, PROVISION};

const HOSTS: usize = 20;

const PLAN: &str = "
name: web
steps:
  - { id: data, directory: { path: /home/ubuntu/data, mode: \"0750\" } }
  - { id: logs, directory: { path: /home/ubuntu/logs, mode: \"0700\" } }
  - { id: tree, directory: { path: /home/ubuntu/tree, recursive: true, owner: ubuntu, file_mode: \"u=rw,go=\" } }
  - { id: conf, file: { path: /home/ubuntu/app.conf, content: \"port = 80\\n\", mode: \"0640\" } }
  - { id: motd, file: { path: /home/ubuntu/motd, content: \"hello\\n\" } }
  - { id: password, compose_env: { file: /home/ubuntu/compose.yaml, variable: PASSWORD, value: { env: SMTP_PASSWORD } } }
";
const COMPOSE: &str = "services:\n  web:\n    image: x\n    environment:\n      PASSWORD: old\n";

const MODULES: &str = "
    - ansible.builtin.file: { path: /home/ubuntu/data, state: directory, mode: '0750' }
    - ansible.builtin.file: { path: /home/ubuntu/logs, state: directory, mode: '0700' }
    - ansible.builtin.file: { path: /home/ubuntu/tree, state: directory, recurse: true, mode: 'u=rwX,go=' }
    - ansible.builtin.copy: { dest: /home/ubuntu/app.conf, content: \"port = 80\\n\", mode: '0640' }
    - ansible.builtin.copy: { dest: /home/ubuntu/motd, content: \"hello\\n\", mode: '0644' }
    - ansible.builtin.lineinfile: { path: /home/ubuntu/compose.yaml, regexp: '^      PASSWORD:', line: '      PASSWORD: fresh' }
";

/// Bytes that the controller has sent to all hosts.
fn sent(fleet: &Fleet) -> u64 {
    let output = fleet.on_controller("cat").arg("/proc/self/net/dev").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let hosts = text.lines().filter(|line| line.trim_start().starts_with('h'));
    hosts.filter_map(|line| line.split_whitespace().nth(9)?.parse::<u64>().ok()).sum()
}

/// Processes and threads that the first host has started.
fn started(fleet: &Fleet) -> u64 {
    let load = fleet.hosts[0].bash("root", "cat /proc/loadavg");
    load.split_whitespace().last().and_then(|last| last.parse().ok()).unwrap_or_default()
}

#[test]
#[ignore = "a measurement"]
fn twenty_hosts_are_measured() {
    let fleet = Fleet::new(HOSTS);
    fleet.write("plan.yaml", PLAN);
    fleet.write("hosts.txt", &(1..=HOSTS).map(|number| format!("h{number}\n")).collect::<String>());
    for host in &fleet.hosts {
        host.write("/home/ubuntu/compose.yaml", "ubuntu", COMPOSE);
        host.bash("ubuntu", "mkdir tree; touch tree/{1..20}; chmod 600 tree/*");
    }
    let head = "- hosts: all\n  gather_facts: false\n  strategy: free\n  vars: { SMTP_PASSWORD: fresh }\n  tasks:\n";
    let task = format!("plan_file: plan.yaml, executable: {PROVISION}, secrets: [SMTP_PASSWORD]");
    fleet.write("apply.yml", &format!("{head}    - provision.core.apply: {{ {task} }}\n"));
    fleet.write("ping.yml", &format!("{head}    - ansible.builtin.ping:\n"));
    fleet.write("modules.yml", &format!("{head}{MODULES}"));
    let config = fleet.path("ssh_config");
    let ssh = format!(
        "xargs -P 20 -I% sh -c 'ssh -F {} % {PROVISION} plan - --json <plan.yaml >%.jsonl' <hosts.txt || true",
        config.display()
    );
    let ansible = |playbook: &str, more: &str, hosts: usize| {
        format!(
            "ansible-playbook --forks 20 --inventory inventory {playbook}.yml {more} --limit 'all[0:{}]' \
             --extra-vars ansible_python_interpreter=/usr/bin/python3",
            hosts - 1
        )
    };
    // Counting starts processes, too.
    let count = started(&fleet);
    let counting = started(&fleet) - count;
    let measured = |name: &str, line: &str| {
        let before = (sent(&fleet), started(&fleet));
        let output = fleet
            .on_controller("/usr/bin/time")
            .args(["--format", "%e %U %S", "--output", "time", "bash", "-c", line])
            .env("ANSIBLE_HOME", fleet.path("ansible"))
            .env("ANSIBLE_COLLECTIONS_PATH", fleet.path("collections"))
            .env("ANSIBLE_SSH_CONTROL_PATH_DIR", fleet.path("cp"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stdout));
        let time = fs::read_to_string(fleet.path("time")).unwrap();
        let times: Vec<f64> = time.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let processes = started(&fleet) - before.1 - counting;
        let kilobytes = (sent(&fleet) - before.0) / 1024;
        println!(
            "{name:<44} wall {:6.2} s   controller CPU {:6.2} s   sent {kilobytes:>6} kB   processes on a host {processes:>4}",
            times[0],
            times[1] + times[2]
        );
    };
    for round in ["first", "second"] {
        println!("{round} round");
        for hosts in [1, HOSTS] {
            measured(&format!("ansible ping, {hosts} hosts"), &ansible("ping", "", hosts));
            measured(&format!("collection, check, {hosts} hosts"), &ansible("apply", "--check", hosts));
            measured(&format!("collection, apply, {hosts} hosts"), &ansible("apply", "", hosts));
            measured(&format!("ansible's modules, {hosts} hosts"), &ansible("modules", "", hosts));
        }
        measured(&format!("ssh and xargs, plan, {HOSTS} hosts"), &ssh);
    }
}
