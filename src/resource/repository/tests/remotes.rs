//! Remotes of every kind, each reached as git reaches it.

use std::fs;

use super::bench::{Bench, apply, desired, git, plan, refusal, write};

fn told(bench: &Bench) -> String {
    let failure = plan(&bench.desired()).unwrap_err();
    format!("{} / {}", failure.message, failure.hint.unwrap_or_default())
}

#[test]
fn a_shallow_remote_is_cloned_with_its_boundary_and_followed() {
    let bench = Bench::new();
    let at = |name: &str| bench.dir.path().join(name);
    let whole = format!("file://{}", bench.remote().display());
    git(bench.dir.path(), &["clone", "-q", "--bare", "--depth=1", "--no-single-branch", &whole, "shallow.git"]);
    let shallow = at("shallow.git").display().to_string();
    for url in [shallow.clone(), format!("file://{shallow}")] {
        let mut desired = desired(&at("cloned"));
        desired.url = Some(url);
        let _ = fs::remove_dir_all(&desired.path);
        apply(&desired, "run-1");
        git(&desired.path, &["fsck"]);
        git(&desired.path, &["log", "--oneline"]);
        assert_eq!(git(&desired.path, &["rev-parse", "--is-shallow-repository"]), "true\n");
        assert_eq!(git(&desired.path, &["rev-parse", "HEAD"]), git(&at("shallow.git"), &["rev-parse", "qa"]));

        bench.commit("more", &[("a", Some(&desired.url.clone().unwrap())), ("n", Some("new\n"))]);
        git(&bench.seed(), &["push", "-q", &shallow, "qa"]);
        apply(&desired, "run-2");
        git(&desired.path, &["fsck"]);
        assert_eq!(git(&desired.path, &["rev-parse", "HEAD"]), git(&bench.seed(), &["rev-parse", "qa"]));
        assert_eq!(git(&desired.path, &["status", "--porcelain"]), "");
    }
}

#[test]
fn a_shallow_clone_follows_its_remote() {
    let bench = Bench::new();
    let top = bench.checkout();
    let whole = format!("file://{}", bench.remote().display());
    // What branches off below the place where the clone's history ends.
    git(&bench.seed(), &["checkout", "-q", "-b", "side", "qa"]);
    bench.commit("aside", &[("side", Some("1\n"))]);
    git(&bench.seed(), &["checkout", "-q", "qa"]);
    for number in ["1", "2", "3"] {
        bench.push(number, &[("a", Some(number))]);
    }
    fs::remove_dir_all(&top).unwrap();
    git(bench.dir.path(), &["clone", "-q", "--depth=2", "--branch=qa", &whole, "checkout"]);
    let ends = fs::read_to_string(top.join(".git/shallow")).unwrap();
    let follows = |run: &str| {
        let before = super::bench::snapshot(&top);
        assert_eq!(plan(&bench.desired()).unwrap().unwrap().changes.len(), 1);
        assert_eq!(super::bench::snapshot(&top), before);
        apply(&bench.desired(), run);
        git(&top, &["fsck"]);
        git(&top, &["gc", "-q"]);
        assert_eq!(git(&top, &["rev-parse", "HEAD"]), git(&bench.seed(), &["rev-parse", "qa"]));
        assert_eq!(git(&top, &["status", "--porcelain"]), "");
        assert_eq!(fs::read_to_string(top.join(".git/shallow")).unwrap(), ends);
    };
    bench.push("4", &[("a", Some("4"))]);
    write(&top, "a", Some("mine\n"));
    follows("run-1");
    assert_eq!(git(&top, &["show", "refs/provision/rescue/run-1:a"]), "mine\n");
    git(&bench.seed(), &["merge", "-q", "--no-edit", "side"]);
    git(&bench.seed(), &["push", "-q", "origin", "qa"]);
    follows("run-2");

    // A history that has nothing in common with what is here.
    git(&bench.seed(), &["reset", "-q", "--hard", "main"]);
    bench.commit("another", &[("a", Some("another"))]);
    git(&bench.seed(), &["push", "-qf", "origin", "qa"]);
    let refusal = refusal(&bench.desired());
    assert!(refusal.message.contains("qa of the remote origin was rewritten"), "{refusal:?}");
}

#[test]
fn a_remote_whose_history_was_cut_off_above_the_checkout_is_refused_and_below_it_is_followed() {
    let bench = Bench::new();
    let whole = format!("file://{}", bench.remote().display());
    bench.push("one more", &[("a", Some("one\n"))]);
    bench.push("and another", &[("a", Some("two\n"))]);
    git(bench.dir.path(), &["clone", "-q", "--bare", "--depth=1", "--branch=qa", &whole, "shallow.git"]);
    let shallow = bench.dir.path().join("shallow.git").display().to_string();
    git(&bench.checkout(), &["remote", "set-url", "origin", &shallow]);
    let before = super::bench::snapshot(&bench.checkout());
    let told = told(&bench);
    let command = format!("`git -C {shallow} fetch --unshallow`");
    assert!(told.contains("history ends before it reaches") && told.contains(&command), "{told}");
    assert!(super::bench::snapshot(&bench.checkout()) == before);

    git(&bench.checkout(), &["pull", "-q", bench.remote().to_str().unwrap(), "qa"]);
    bench.commit("later", &[("a", Some("later\n"))]);
    git(&bench.seed(), &["push", "-q", &shallow, "qa"]);
    let before = super::bench::snapshot(&bench.checkout());
    assert_eq!(plan(&bench.desired()).unwrap().unwrap().changes.len(), 1);
    assert!(super::bench::snapshot(&bench.checkout()) == before);
    apply(&bench.desired(), "run-1");
    git(&bench.checkout(), &["fsck"]);
    assert_eq!(git(&bench.checkout(), &["rev-parse", "--is-shallow-repository"]), "false\n");
}

#[test]
fn tags_of_new_commits_come_with_them() {
    let bench = Bench::new();
    let (top, seed) = (bench.checkout(), bench.seed());
    let tags = || git(&top, &["for-each-ref", "--format=%(refname:short) %(objectname)", "refs/tags"]);
    git(&top, &["tag", "mine"]);
    git(&top, &["tag", "moved"]);
    let mine = tags();
    let push = |message: &str| {
        bench.push(message, &[("a", Some(message))]);
        git(&seed, &["tag", "-f", "-m", message, &format!("v{message}")]);
        git(&seed, &["tag", "-f", &format!("light/{message}")]);
        git(&seed, &["tag", "-f", "moved"]);
        git(&seed, &["push", "-qf", "--tags"]);
    };
    git(&seed, &["checkout", "-q", "-b", "elsewhere"]);
    bench.commit("elsewhere", &[("e", Some("e"))]);
    git(&seed, &["tag", "-m", "no commit of qa's", "other"]);
    git(&seed, &["checkout", "-q", "qa"]);
    push("1");
    let before = super::bench::snapshot(&top);
    plan(&bench.desired()).unwrap().unwrap();
    assert!(super::bench::snapshot(&top) == before);
    apply(&bench.desired(), "run-1");
    let names = git(&top, &["tag"]);
    assert_eq!(names, "light/1\nmine\nmoved\nv1\n");
    assert!(mine.lines().all(|line| tags().contains(line)), "{mine} {}", tags());
    assert_eq!(git(&top, &["describe"]), "v1\n");
    git(&top, &["fsck"]);

    git(&top, &["config", "remote.origin.tagOpt", "--no-tags"]);
    push("2");
    apply(&bench.desired(), "run-2");
    assert_eq!(git(&top, &["tag"]), names);
    git(&top, &["config", "remote.origin.tagOpt", "--tags"]);
    push("3");
    apply(&bench.desired(), "run-3");
    assert_eq!(git(&top, &["tag"]), "light/1\nlight/2\nlight/3\nmine\nmoved\nother\nv1\nv2\nv3\n");
    git(&top, &["fsck"]);
}

#[test]
fn conditional_includes_hold_for_the_checkout() {
    let bench = Bench::new();
    let folder = bench.dir.path();
    let include = folder.join("include.cfg");
    fs::write(&include, format!("[url \"{}/\"]\n\tinsteadOf = corp:\n", folder.display())).unwrap();
    let condition = |condition: &str| {
        let key = format!("includeIf.{condition}.path");
        git(&bench.checkout(), &["config", &key, include.to_str().unwrap()]);
        key
    };
    git(&bench.checkout(), &["remote", "set-url", "origin", "corp:remote.git"]);
    assert!(told(&bench).contains("corp"));
    for one in [
        format!("gitdir:{}/", folder.display()),
        "gitdir/i:CHECKOUT/.git".to_owned(),
        "onbranch:qa".to_owned(),
        "hasconfig:remote.*.url:corp:*".to_owned(),
    ] {
        let key = condition(&one);
        bench.push(&one, &[("a", Some(&one))]);
        apply(&bench.desired(), "run-1");
        git(&bench.checkout(), &["config", "--unset", &key]);
    }
}

#[test]
fn what_git_would_not_run_is_not_run() {
    let bench = Bench::new();
    let top = bench.checkout();
    let ran = bench.dir.path().join("ran");
    // git would store its branches under refs/bundles.
    let bundle = bench.dir.path().join("bundle");
    git(&bench.seed(), &["bundle", "create", "-q", bundle.to_str().unwrap(), "main", "qa"]);
    for (key, value) in [
        ("core.fsmonitor", format!("touch {}", ran.display())),
        ("protocol.ext.allow", "always".to_owned()),
        ("fetch.prune", "true".to_owned()),
        ("remote.origin.prune", "true".to_owned()),
        ("remote.origin.tagOpt", "--tags".to_owned()),
        ("fetch.writeCommitGraph", "true".to_owned()),
        ("gc.auto", "1".to_owned()),
        ("submodule.recurse", "true".to_owned()),
        ("fetch.bundleURI", format!("file://{}", bundle.display())),
    ] {
        git(&top, &["config", key, &value]);
    }
    let hook = top.join(".git/hooks/reference-transaction");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, format!("#!/bin/sh\ntouch {}\n", ran.display())).unwrap();
    fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    git(&bench.seed(), &["tag", "-m", "a tag", "v1"]);
    bench.push("more", &[("a", Some("more\n"))]);
    git(&bench.seed(), &["push", "-q", "--tags"]);
    let before = super::bench::snapshot(&top);
    assert_eq!(plan(&bench.desired()).unwrap().unwrap().changes.len(), 1);
    assert_eq!(super::bench::snapshot(&top), before);
    assert!(!ran.exists());

    git(&top, &["remote", "set-url", "origin", &format!("ext::touch {}", ran.display())]);
    let told = told(&bench);
    assert!(told.contains("transport 'ext' not allowed") && told.contains("use a path"), "{told}");
    for (url, words) in
        [("ftp://u:p@h/x", "'ftp' not allowed"), ("-x", "write ./ before the path"), ("", "url is empty")]
    {
        git(&top, &["config", "remote.origin.url", url]);
        if url.is_empty() {
            refusal(&bench.desired());
            continue;
        }
        let told = self::told(&bench);
        assert!(told.contains(words) && !told.contains("u:p"), "{told}");
    }
    assert!(!ran.exists());
}

#[test]
fn a_password_that_the_configuration_puts_into_the_url_is_not_shown() {
    let bench = Bench::new();
    let top = bench.checkout();
    git(&top, &["config", "url.ssh://u:s3cret@.insteadOf", "forge:"]);
    git(&top, &["config", "url.https://u:s3cret@h.invalid/.insteadOf", "web:"]);
    for url in ["forge:h.invalid", "web:x"] {
        git(&top, &["remote", "set-url", "origin", url]);
        let told = told(&bench);
        assert!(told.contains(url) && !told.contains("s3cret"), "{told}");
    }
}

#[test]
fn a_place_with_odd_letters_is_reached() {
    let bench = Bench::new();
    for name in ["with space", "quote\"s", "back\\slash", "colon:x", "star*[x]"] {
        let mut desired = bench.desired();
        desired.path = serde_json::from_value(bench.dir.path().join(name).join("checkout").to_str().into()).unwrap();
        let remote = bench.dir.path().join(format!("{name}.git"));
        super::bench::copy(&bench.remote(), &remote);
        desired.url = Some(remote.display().to_string());
        apply(&desired, "run-1");
        bench.commit(name, &[("a", Some(name))]);
        git(&bench.seed(), &["push", "-q", remote.to_str().unwrap(), "qa"]);
        apply(&desired, "run-2");
    }
}
