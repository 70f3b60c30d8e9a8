//! A path behind a directory that the step's user may not enter or list: the message names the owner, and a remedy that works.

use crate::sandbox::{Outcome, Sandbox};

/// A host where only its owner, `ubuntu`, may enter `/srv/closed`. The target of the step is below it.
fn host(step: &str) -> Sandbox {
    let sandbox = Sandbox::new().env("PW", "new");
    sandbox.write("/root/p.yaml", "root", format!("name: p\nsteps:\n  - {{ id: it, run_as: mallory, {step} }}\n"));
    sandbox.bash(
        "root",
        "mkdir -p /srv/closed/app; cd /srv/closed/app; ssh-keygen -q -t ed25519 -N '' -f key.pem
        cp key.pem /root/key.pem; git init -q --bare -b main /srv/remote.git; git init -q -b main r
        printf 'services: { a: { image: x, environment: { PW: new } } }' > c.yml; echo same > f; mkdir d
        cd r; git -c user.name=a -c user.email=a@a commit -q --allow-empty -m a; git push -q /srv/remote.git main
        git remote add origin /srv/remote.git; git fetch -q origin
        chown -R mallory: /srv/closed/app /srv/remote.git; chmod 644 /srv/closed/app/c.yml
        chown ubuntu: /srv/closed; chmod 700 /srv/closed",
    );
    sandbox
}

fn plan(sandbox: &Sandbox) -> Outcome {
    sandbox.provision("root", ["plan", "/root/p.yaml", "--json"]).run()
}

const STEPS: [&str; 6] = [
    "directory: { path: /srv/closed/app/d }",
    "directory: { path: /srv/closed/app, owner: mallory, recursive: true }",
    "file: { path: /srv/closed/app/f, content: \"same\\n\" }",
    "key_file: { path: /srv/closed/app/key.pem, source: { file: /root/key.pem }, mode: '0600' }",
    "compose_env: { file: /srv/closed/app/c.yml, variable: PW, value: { env: PW } }",
    "repository: { path: /srv/closed/app/r, url: /srv/remote.git, branch: main }",
];

#[test]
fn a_directory_on_the_way_that_is_closed_is_named_with_its_owner_and_opened_by_the_hint() {
    for step in STEPS {
        let sandbox = host(step);
        let outcome = plan(&sandbox).exits(1);
        let hint = outcome.step("step_planned", "it")["hint"].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            hint,
            "/srv/closed belongs to ubuntu, and mallory may not enter it: set run_as: ubuntu on the step, or open it: \
             `setfacl -m u:mallory:x /srv/closed`; if a step sets its mode, correct that mode instead",
            "{step}\n{outcome}"
        );
        sandbox.bash("root", hint.split('`').nth(1).unwrap());
        let after = plan(&sandbox).exits(0);
        assert_eq!(after.step("step_planned", "it")["outcome"], "unchanged", "{step}\n{after}");
    }
}

#[test]
fn a_checkout_that_may_not_be_listed_is_named_with_its_owner() {
    let sandbox = host(STEPS[5]);
    sandbox.bash("root", "chmod 755 /srv/closed; chown -R ubuntu: /srv/closed/app/r; chmod 700 /srv/closed/app/r");
    let outcome = plan(&sandbox).exits(1);
    let planned = outcome.step("step_planned", "it");
    assert_eq!(planned["reason"], "cannot read the directory /srv/closed/app/r: permission denied", "{outcome}");
    assert_eq!(
        planned["hint"],
        "/srv/closed/app/r belongs to ubuntu: set run_as: ubuntu; git work is done as the checkout's owner alone",
        "{outcome}"
    );
}
