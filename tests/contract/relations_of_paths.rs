//! Laws 3 and 10 for paths: links that a checkout holds, bind mounts, files of git, and parents inside the tree of another step.

use crate::relations::{FILE, apply, host, refuses};
use crate::sandbox::Sandbox;

/// A literal is edited in the compose file. Whether the `.env` beside it can be created does not matter.
#[test]
fn a_literal_does_not_wait_for_a_blocked_env_file() {
    let sandbox = host(
        "
  - { id: env, file: { path: /srv/app/.env, content: \"A={{ secret('a') }}\\n\", secrets: { a: { env: NOT_SET } } } }
  - { id: literal, compose_env: { file: /srv/app/dc.yml, variable: P, value: { env: P } } }
  - { id: referred, compose_env: { file: /srv/app/other.yml, variable: Q, value: { env: P } } }
",
    )
    .env("P", "new");
    sandbox.bash(
        "root",
        "mkdir /srv/app; cd /srv/app; printf 'services: { a: { environment: { P: old } } }\\n' > dc.yml
         printf 'services: { a: { environment: { Q: \"${Q}\" } } }\\n' > other.yml",
    );
    let steps = |sandbox: &Sandbox| {
        let text = sandbox.read(FILE).lines().filter(|line| !line.contains("referred")).collect::<Vec<_>>().join("\n");
        sandbox.write(FILE, "root", text + "\n");
    };
    refuses(&sandbox, &["owns the content of /srv/app/.env"]);
    steps(&sandbox);
    let outcome = apply(&sandbox).exits(1);
    assert_eq!(outcome.outcomes(), [("env".into(), "blocked".into()), ("literal".into(), "changed".into())]);
}
