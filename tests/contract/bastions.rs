//! Bastions as they are configured: further factors, host certificates, few algorithms, banners, `known_hosts` of all forms.

use crate::sandbox::{BASTION, KEY, KNOWN_HOSTS, Outcome, Rotation};

fn texts(outcome: &Outcome, key: &str) -> String {
    let step = outcome.step("step_planned", "key");
    step[key].as_array().into_iter().flatten().filter_map(|text| text.as_str()).collect::<Vec<_>>().join("\n")
}

/// Plans, and asserts that the step is blocked for a reason, with a hint.
#[track_caller]
fn is_blocked(rotation: &Rotation, more: &str, reason: &str, hint: &str) -> String {
    let outcome = rotation.run("plan", more).exits(1);
    let step = outcome.step("step_planned", "key");
    assert_eq!(step["outcome"], "blocked", "{outcome}");
    let text = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
    assert!(text("reason").contains(reason), "{reason:?}\n{outcome}");
    assert!(text("hint").contains(hint), "{hint:?}\n{outcome}");
    text("reason") + &text("hint")
}

#[test]
fn a_second_factor_proves_the_key_and_is_named() {
    for (line, named) in [
        ("AuthenticationMethods publickey,password\nPasswordAuthentication yes", "password"),
        ("AuthenticationMethods publickey,publickey", "a second key"),
        ("AuthenticationMethods publickey,password\nPasswordAuthentication yes\nMaxAuthTries 1", "further method"),
    ] {
        let rotation = Rotation::new();
        rotation.serve(line);
        rotation.authorize(&["old"]);
        is_blocked(&rotation, "", "the key", "");
        rotation.authorize(&["old", "new"]);
        let outcome = rotation.run("apply", "required: true, retire: true").exits(0);
        let notes = texts(&outcome, "notes");
        assert!(notes.contains("accepts the key SHA256:") && notes.contains(named), "{line}: {outcome}");
        assert!(texts(&outcome, "warnings").contains("still accepts the old key"), "{outcome}");
        rotation.serve("");
        rotation.took_the_new_key(line);
    }
}

#[test]
fn a_host_without_logins_by_key_is_named() {
    let rotation = Rotation::new();
    for line in
        ["PubkeyAuthentication no", "AuthenticationMethods password", "AuthenticationMethods password,publickey"]
    {
        rotation.serve(&format!("{line}\nPasswordAuthentication yes"));
        is_blocked(&rotation, "", "offers no login with a key; it offers password", "PubkeyAuthentication");
    }
    // The key is right, and the user may not log in.
    let keys = "mkdir -p -m 700 /root/.ssh; cp /home/git/.ssh/authorized_keys /root/.ssh/; chown root: /root/.ssh/*";
    rotation.sandbox.bash("root", keys);
    rotation.serve("PermitRootLogin no");
    let outcome = rotation.at("root@127.0.0.1:2222", "plan", "").exits(1);
    assert!(outcome.all().contains("does not let root in (see PermitRootLogin"), "{outcome}");
}

#[test]
fn a_host_without_common_algorithms_lets_no_key_in_unproven() {
    let rotation = Rotation::new();
    for (line, what, ours) in [
        ("KexAlgorithms sntrup761x25519-sha512@openssh.com", "key exchange algorithm", "curve25519-sha256"),
        ("Ciphers aes128-ctr\nMACs umac-128-etm@openssh.com", "MAC algorithm", "hmac-sha2-256"),
    ] {
        rotation.serve(line);
        let offered = line.rsplit(' ').next().unwrap();
        let text = is_blocked(&rotation, "", &format!("no {what} in common: the host offers {offered}"), ours);
        assert!(text.contains("fewer algorithms than ssh"), "{text}");
        rotation.serve("");
        rotation.kept_the_old_key(line);
    }
    rotation.impostor(1, r#"print $c "SSH-1.5-old\r\n"; sleep 5"#);
    let old = rotation.at("git@127.0.0.1:1", "plan", "").exits(1);
    assert!(old.all().contains("only version 1.5 of the SSH protocol"), "{old}");
    for (port, perl, why) in [
        (
            2,
            r#"print $c "HTTP/1.1 400 Bad Request\r\n\r\n""#,
            "is not an SSH server: it answered `HTTP/1.1 400 Bad Request`",
        ),
        (3, "", "closed the connection at once"),
    ] {
        rotation.impostor(port, perl);
        let outcome = rotation.at(&format!("git@127.0.0.1:{port}"), "plan", "").exits(0);
        assert!(texts(&outcome, "warnings").contains(why), "{outcome}");
    }
}

/// Starts the bastion with certificates for some of its keys.
fn certified(rotation: &Rotation, algorithms: &[&str], more: &str) {
    let mut lines = more.to_owned();
    for algorithm in algorithms {
        let make = format!(
            "cd /etc/ssh; [ -e ca ] || ssh-keygen -q -t ed25519 -N '' -f ca
            ssh-keygen -q -s ca -I bastion -h -n 127.0.0.1 -z $RANDOM bastion_{algorithm}.pub"
        );
        rotation.sandbox.bash("root", &make);
        lines += &format!("\nHostCertificate /etc/ssh/bastion_{algorithm}-cert.pub");
    }
    rotation.serve(&lines);
}

#[test]
fn host_certificates_are_no_other_host_keys() {
    let rotation = Rotation::new();
    let all = ["ed25519", "ecdsa", "rsa"];
    let fingerprints = all.map(|algorithm| rotation.fingerprint(algorithm));
    for certificates in [&all[..], &["rsa"], &["ed25519"], &["ecdsa", "rsa"]] {
        certified(&rotation, certificates, "");
        for algorithm in all {
            rotation.run("plan", &format!("required: true, host_key: '{}'", rotation.fingerprint(algorithm))).exits(0);
            rotation.know(algorithm);
            rotation.run("plan", "required: true").exits(0);
        }
        // Whatever is shown is what ssh-keygen shows.
        rotation.sandbox.bash("root", &format!("rm {KNOWN_HOSTS}"));
        let text = is_blocked(&rotation, "", "is unknown (SHA256:", "ssh-keyscan -p 2222 127.0.0.1 >> /home/ubuntu");
        assert!(fingerprints.iter().any(|fingerprint| text.contains(fingerprint)), "{text}");
        let text = is_blocked(&rotation, &format!("host_key: 'SHA256:{}'", "A".repeat(43)), "expected SHA256:AAA", "");
        assert!(fingerprints.iter().all(|fingerprint| text.matches(fingerprint.as_str()).count() == 1), "{text}");
        assert_eq!(text.matches("SHA256:").count(), 5, "{text}");
    }
    certified(&rotation, &["ed25519"], "HostKeyAlgorithms ssh-ed25519-cert-v01@openssh.com");
    rotation.know("ed25519");
    let text = is_blocked(&rotation, "", "offers only host certificates", "HostKeyAlgorithms");
    assert!(!text.contains("has changed") && !text.contains("ssh-keygen -R"), "{text}");
    rotation.serve("");
    rotation.kept_the_old_key("host certificates");
}

/// The old key is removed from the file that lists it, whoever started the run.
#[test]
fn a_changed_host_key_is_replaced_by_the_commands_in_the_hints() {
    let rotation = Rotation::new();
    rotation.sandbox.bash("root", "ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/bastion_other");
    rotation.run("plan", "required: true").exits(0);
    for (file, launcher) in [(KNOWN_HOSTS, "ubuntu"), (KNOWN_HOSTS, "root"), ("/etc/ssh/ssh_known_hosts", "ubuntu")] {
        let key = "$(cut -d' ' -f1,2 /etc/ssh/bastion_other.pub)";
        let list = format!(
            "rm -f {KNOWN_HOSTS}; echo \"[127.0.0.1]:2222 {key}\" > {file}; chown ubuntu {KNOWN_HOSTS} || true"
        );
        rotation.sandbox.bash("root", &list);
        for expected in ["ssh-keygen -f ", "ssh-keyscan -p 2222 127.0.0.1"] {
            let outcome = rotation.sandbox.provision(launcher, ["plan", "/srv/rotation.yaml"]).run().exits(1);
            let command = outcome.commands().into_iter().find(|command| command.contains(expected));
            let command = command.unwrap_or_else(|| panic!("{expected}: {outcome}"));
            rotation.sandbox.bash(launcher, &command);
        }
        rotation.sandbox.provision(launcher, ["plan", "/srv/rotation.yaml"]).run().exits(0);
    }
}

/// Also where the user has no `~/.ssh` yet.
#[test]
fn the_key_of_an_unknown_host_is_added_by_the_command_in_the_hint() {
    let rotation = Rotation::new();
    for prepare in ["rm -r .ssh", "rm .ssh/known_hosts; chmod 750 .ssh"] {
        rotation.sandbox.bash("ubuntu", prepare);
        let text = is_blocked(&rotation, "", "is unknown (SHA256:", "ssh-keyscan");
        let (_, command) = text.split_once("add the key: `").unwrap();
        rotation.sandbox.bash("ubuntu", command.split('`').next().unwrap());
        rotation.run("plan", "required: true").exits(0);
        let mode = if prepare.contains("750") { "750\n" } else { "700\n" };
        assert_eq!(rotation.sandbox.bash("ubuntu", "stat -c %a .ssh"), mode);
    }
}

#[test]
fn known_hosts_is_read_as_ssh_reads_it() {
    let rotation = Rotation::new();
    let key = rotation.sandbox.read("/etc/ssh/bastion_ed25519.pub");
    let other = rotation.public("old");
    let write = |path: &str, line: &str| rotation.sandbox.write(path, "ubuntu", line);
    // A host that is listed without its port.
    write(KNOWN_HOSTS, &format!("127.0.0.1 {key}"));
    rotation.run("plan", "required: true").exits(0);
    assert!(
        rotation.sandbox.bash("ubuntu", &format!("ssh -o BatchMode=yes -i {KEY} -p 2222 git@127.0.0.1 echo in"))
            == "in\n"
    );
    write(KNOWN_HOSTS, &format!("127.0.0.1 {other}"));
    is_blocked(&rotation, "", "is unknown", "ssh-keyscan");
    write(KNOWN_HOSTS, &format!("@revoked 127.0.0.1 {key}"));
    is_blocked(&rotation, "", "is revoked by", "");
    rotation.sandbox.bash("root", &format!("rm {KNOWN_HOSTS}"));
    for file in ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"] {
        write(file, &format!("[127.0.0.1]:2222 {key}"));
        rotation.run("plan", "required: true").exits(0);
        rotation.sandbox.bash("root", &format!("rm {file}"));
    }
    // The files are those of the step's user, and the hint names them.
    rotation.sandbox.write("/root/.ssh/known_hosts", "root", format!("[127.0.0.1]:2222 {key}"));
    let outcome = rotation.sandbox.provision("root", ["plan", "/srv/rotation.yaml", "--json"]).run().exits(1);
    let step = outcome.step("step_planned", "key");
    assert!(
        step["reason"].as_str().unwrap().contains(&format!("ubuntu does not find it in {KNOWN_HOSTS}")),
        "{outcome}"
    );
    let hint = step["hint"].as_str().unwrap().to_owned();
    let command = hint.split('`').nth(1).unwrap();
    rotation.sandbox.bash("ubuntu", command);
    rotation.run("plan", "required: true").exits(0);
    write(KNOWN_HOSTS, &format!("@cert-authority * {key}"));
    is_blocked(&rotation, "", "is unknown", &format!("{KNOWN_HOSTS}:1 names a certificate authority"));
}

#[test]
fn a_long_banner_is_read_or_named() {
    let rotation = Rotation::new();
    rotation.sandbox.bash("root", "head -c 30000 /dev/zero | tr '\\0' b > /etc/banner");
    rotation.serve("Banner /etc/banner");
    rotation.run("plan", "required: true").exits(0);
    rotation.sandbox.bash("root", "head -c 70000 /dev/zero | tr '\\0' b > /etc/banner");
    let outcome = rotation.run("plan", "required: true").exits(1);
    assert!(outcome.all().contains("more than 40,000 bytes before the login"), "{outcome}");
    assert!(outcome.all().contains("`Banner`") && !outcome.all().contains("rejected"), "{outcome}");
}

#[test]
fn a_mode_that_ssh_refuses_is_reported() {
    let rotation = Rotation::new();
    rotation.run("apply", "").exits(0);
    let planned = |mode: &str, verify: &str, user: &str| {
        let plan = format!(
            "name: m\nsteps:\n  - id: key\n    run_as: {user}\n    key_file: {{ path: {KEY}, mode: '{mode}', \
             source: {{ file: /home/ubuntu/jasleentung.pem }}{verify} }}\n"
        );
        rotation.sandbox.write("/srv/mode.yaml", "root", plan);
        rotation.sandbox.provision("ubuntu", ["plan", "/srv/mode.yaml", "--json"]).run()
    };
    let plan = |mode: &str, verify: &str| planned(mode, verify, "ubuntu").exits(0);
    let verify = format!(", verify: {{ ssh: '{BASTION}' }}");
    for mode in ["0440", "0644", "0604", "0640"] {
        let warned = texts(&plan(mode, &verify), "warnings");
        assert!(warned.contains(&format!("with mode {mode}, ssh refuses the key")), "{warned}");
        let outcome = plan(mode, "");
        assert!(
            texts(&outcome, "warnings").is_empty() && texts(&outcome, "notes").contains("ssh refuses"),
            "{outcome}"
        );
        rotation.sandbox.bash("ubuntu", &format!("chmod {mode} {KEY}"));
        assert!(!rotation.opens(KEY), "ssh accepts {mode}");
    }
    for mode in ["0400", "0600", "0700"] {
        assert!(!plan(mode, &verify).all().contains("ssh refuses"));
    }
    assert!(texts(&planned("0200", "", "root").exits(0), "warnings").contains("the owner of the key cannot read it"));
    // The next run of the step could not compare the content.
    let blocked = planned("0200", "", "ubuntu").exits(1);
    assert!(blocked.stdout.contains("mode 0200 would lock ubuntu out of"), "{blocked}");
}
