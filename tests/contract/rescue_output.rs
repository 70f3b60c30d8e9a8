//! What apply prints of rescues: the commands that restore them, and what a restore undoes.

use crate::checkout_denials::Host;
use crate::sandbox::PROVISION;

/// The output says how to get a rescue back, and what getting it back undoes.
#[test]
fn apply_says_what_restoring_a_rescue_undoes() {
    let host = Host::new();
    host.git("echo mine > app/a.txt; echo own > app/new");
    host.push("echo 2 > a.txt; echo 2 > new; echo 2 > d/b.txt");
    let apply = |more: &str| {
        host.sandbox.command("ubuntu", ["bash", "-c", &format!("{PROVISION} apply m.yaml --yes {more}")]).run().exits(0)
    };
    let said = "restoring it undoes what was committed since in a.txt, new";
    let done = apply("");
    assert!(done.stdout.contains("rescue restore") && done.stdout.contains(said), "{done}");
    let listed = host.git(&format!("{PROVISION} rescue list m.yaml"));
    assert!(listed.contains(said), "{listed}");
    host.git("git -C app reset -q --hard HEAD~; echo mine > app/a.txt; echo own > app/new");
    let done = apply("--json");
    assert_eq!(done.step("step_finished", "code")["restoring_undoes"], serde_json::json!([said]), "{done}");
    // What HEAD has not changed is not undone.
    let host = Host::new();
    host.git("git -C app rm -q --cached a.txt");
    host.push("echo 2 > d/b.txt");
    let done = host.run("apply --yes").exits(0);
    assert_eq!(done.step("step_finished", "code")["restoring_undoes"], serde_json::json!([]), "{done}");
}

/// A rescued file cannot return where HEAD has something else, so the printed command writes it to a new directory.
#[test]
fn the_printed_command_writes_rescued_files_elsewhere_if_their_place_is_taken() {
    for (mine, push) in [
        ("d/mine", "git rm -qr d; echo 2 > d"),
        ("d/mine", "git rm -qr d; ln -s a.txt d"),
        ("a.txt", "git rm -q a.txt; mkdir a.txt; echo 2 > a.txt/f"),
    ] {
        let host = Host::new();
        host.git(&format!("echo mine > app/{mine}"));
        host.push(push);
        let done = host.run("apply --yes").exits(0);
        let finished = done.step("step_finished", "code");
        let printed = finished["restore_commands"][0].as_str().unwrap_or_else(|| panic!("{push}: {done}")).to_owned();
        let pasted = printed.replace("provision rescue", &format!("{PROVISION} rescue"));
        let written = host.git(&pasted);
        let to = printed.split_once(" --to ").unwrap_or_else(|| panic!("{printed}")).1;
        assert_eq!(host.git(&format!("cat {to}/{mine}")), "mine\n", "{printed}: {written}");
    }
}

/// Only the restored files undo something, so the note follows their command and not that of the commits.
#[test]
fn what_a_restore_undoes_is_below_its_own_command() {
    let host = Host::new();
    host.git("sed -i 's/branch: main/&, local_commits: rescue_and_reset/' m.yaml");
    host.git("cd app; git checkout -q --detach; git commit -qm own --allow-empty; echo mine > a.txt");
    host.push("echo 2 > a.txt");
    let done =
        host.sandbox.command("ubuntu", ["bash", "-c", &format!("{PROVISION} apply m.yaml --yes")]).run().exits(0);
    let at = |text: &str| done.stdout.find(text).unwrap_or_else(|| panic!("{text}: {done}"));
    let (branch, restore, undoes) = (at("git -C"), at("rescue restore"), at("restoring it undoes"));
    assert!(branch < restore && restore < undoes, "{done}");
}
