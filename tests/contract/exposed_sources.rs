//! A secret whose source every user of the host can read is reported, whichever kind uses it.

use crate::sandbox::Sandbox;

#[test]
fn a_secret_source_that_everybody_can_read_is_reported() {
    let sandbox = Sandbox::new();
    sandbox
        .bash("root", "mkdir -p /srv/app /srv/keys; cd /srv/keys; ssh-keygen -q -t ed25519 -N '' -f key; echo pw > pw");
    sandbox.write("/srv/app/compose.yaml", "root", "services:\n  a:\n    image: x\n    environment:\n      PW: old\n");
    let plan = "name: e
steps:
  - { id: key, key_file: { path: /srv/app/key.pem, source: { file: /srv/keys/key } } }
  - { id: pw, compose_env: { file: /srv/app/compose.yaml, variable: PW, value: { file: /srv/keys/pw } } }
  - { id: conf, file: { path: /srv/app/conf, content: \"{{ secret('pw') }}\", secrets: { pw: { file: /srv/keys/pw } } } }
";
    sandbox.write("/root/e.yaml", "root", plan);
    let warned = |folder: &str, mode: &str| {
        sandbox.bash("root", &format!("chmod {folder} /srv/keys; chmod {mode} /srv/keys/key /srv/keys/pw"));
        let outcome = sandbox.provision("root", ["plan", "/root/e.yaml", "--json"]).run().exits(0);
        ["key", "pw", "conf"].map(|id| outcome.step("step_planned", id)["warnings"].to_string())
    };
    for mode in ["644", "666", "604"] {
        for text in warned("755", mode) {
            assert!(text.contains("every user of this host can read the secret source /srv/keys/"), "{mode}: {text}");
        }
        // Nobody gets to the file.
        for text in warned("750", mode) {
            assert!(!text.contains("every user"), "{mode}: {text}");
        }
    }
    for text in warned("755", "640") {
        assert!(!text.contains("every user"), "{text}");
    }
    sandbox.bash("root", "chmod 644 /srv/keys/key");
    let outcome = sandbox.provision("root", ["plan", "/root/e.yaml", "--json"]).run().exits(0);
    let warnings = outcome.step("step_planned", "key")["warnings"].to_string();
    let command = warnings.split('`').nth(1).unwrap();
    sandbox.bash("root", command);
    let outcome = sandbox.provision("root", ["plan", "/root/e.yaml", "--json"]).run().exits(0);
    assert!(!outcome.step("step_planned", "key")["warnings"].to_string().contains("every user"), "{outcome}");
}
