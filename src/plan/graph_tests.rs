use super::*;

fn directory(path: &str) -> Claims {
    Claims {
        owns: vec![Claim::Directory { path: path.into(), tree: None }],
        creates: Some(path.into()),
        needs: vec![Need::Path(path.into())],
        edits: Vec::new(),
    }
}

fn graph(steps: &[(&[usize], Claims)]) -> Result<Graph, Cycle> {
    let nodes: Vec<Node<'_>> =
        steps.iter().map(|(after, claims)| Node { after, written: claims, located: claims }).collect();
    Graph::new(&nodes)
}

#[test]
fn every_reason_to_wait_is_kept() {
    let graph = graph(&[(&[], directory("/srv/code")), (&[0], directory("/srv/code/logs"))]).unwrap();
    assert_eq!(graph.before(1), [(0, Reason::Path("/srv/code/logs".into())), (0, Reason::After)]);
}

#[test]
fn steps_that_wait_for_each_other_are_an_error() {
    let cycle = graph(&[(&[1], directory("/srv/a")), (&[0], directory("/srv/b"))]).unwrap_err();
    assert_eq!(cycle.steps(), [0, 1, 0]);
    assert_eq!(cycle.edges().collect::<Vec<_>>(), [(0, 1, &Reason::After), (1, 0, &Reason::After)]);
}

#[test]
fn an_implied_order_yields_to_after() {
    let graph = graph(&[(&[1], directory("/srv/code")), (&[], directory("/srv/code/logs"))]).unwrap();
    assert_eq!(graph.sequence(), [1, 0]);
    assert_eq!(graph.before(1), []);
    assert_eq!(graph.inside_and_before(0), [1]);
}

#[test]
fn an_implied_order_yields_to_an_indirect_after() {
    let steps = [
        (&[2][..], directory("/srv/code")),
        (&[][..], directory("/srv/code/logs")),
        (&[1][..], directory("/srv/else")),
    ];
    assert_eq!(graph(&steps).unwrap().sequence(), [1, 2, 0]);
}

#[test]
fn an_implied_order_yields_to_an_after_that_a_file_carries_on() {
    let file = Claims { owns: vec![Claim::File("/srv/d/dc.yml".into())], ..directory("/srv/d/dc.yml") };
    let edit = Claims { owns: Vec::new(), creates: None, ..file.clone() };
    let file_first = [(&[][..], file.clone()), (&[2][..], directory("/srv/d")), (&[][..], edit.clone())];
    assert_eq!(graph(&file_first).unwrap().sequence(), [0, 2, 1]);
    let file_last = [(&[][..], edit), (&[0][..], directory("/srv/d")), (&[][..], file)];
    assert_eq!(graph(&file_last).unwrap().sequence(), [2, 0, 1]);
}

#[test]
fn of_two_directories_the_outer_one_yields() {
    let steps = [(&[2][..], directory("/srv")), (&[][..], directory("/srv/x")), (&[][..], directory("/srv/x/y"))];
    let made = graph(&steps).unwrap();
    assert_eq!(made.sequence(), [1, 2, 0]);
    assert_eq!(made.inside_and_before(0), [1, 2]);
    assert!(made.inside_and_before(1).is_empty());
}

#[test]
fn a_checkout_cannot_come_after_steps_inside_it() {
    let code = Claims { owns: vec![Claim::Checkout("/srv/code".into())], ..directory("/srv/code") };
    let cycle = graph(&[(&[1], code), (&[], directory("/srv/code/logs"))]).unwrap_err();
    let inside = Reason::Path("/srv/code/logs".into());
    assert_eq!(cycle.edges().collect::<Vec<_>>(), [(0, 1, &Reason::After), (1, 0, &inside)]);
}

#[test]
fn tables_like_each_other_are_a_cycle() {
    let like = |own: &str, parent: &str| {
        let database = Database::Connection("w".into());
        Claims {
            owns: vec![Claim::Table { database: database.clone(), name: own.into() }],
            needs: vec![Need::Table { database, name: parent.into() }],
            ..Claims::default()
        }
    };
    let cycle = graph(&[(&[], like("s.a", "s.b")), (&[], like("s.b", "s.a"))]).unwrap_err();
    assert_eq!(cycle.edges().collect::<Vec<_>>(), [(0, 1, &Reason::Table), (1, 0, &Reason::Table)]);
}

#[test]
fn what_a_step_reads_is_made_first_unless_an_order_says_otherwise() {
    let file = |path: &str, reads: &[&str]| Claims {
        owns: vec![Claim::File(path.into())],
        needs: reads.iter().map(|path| Need::Read(path.into())).collect(),
        ..Claims::default()
    };
    let checkout = |path: &str, read: &str| Claims {
        owns: vec![Claim::Checkout(path.into())],
        needs: vec![Need::Read(read.into())],
        ..Claims::default()
    };
    let reader = file("/a", &["/ssh", "/app/.git"]);
    let steps = [
        (&[][..], reader.clone()),
        (&[][..], file("/ssh/id", &[])),
        (&[][..], checkout("/app", "/b")),
        (&[][..], directory("/ssh")),
    ];
    let made = graph(&steps).unwrap();
    assert_eq!(made.before(0), [(1, Reason::Read("/ssh/id".into())), (2, Reason::Read("/app/.git".into()))]);
    let after = [(&[][..], reader), (&[0][..], file("/ssh/id", &[]))];
    assert_eq!(graph(&after).unwrap().sequence(), [0, 1]);
    let each_other = [(&[][..], checkout("/a", "/b/.git")), (&[][..], checkout("/b", "/a/.git"))];
    assert_eq!(graph(&each_other).unwrap().sequence(), [1, 0]);
}

#[test]
fn a_checkout_that_holds_a_link_to_a_path_runs_first_unless_it_waits() {
    let linked = |path: &str, link: &str| Claims {
        needs: vec![Need::Path(path.into()), Need::Link(link.into())],
        ..directory(path)
    };
    let code = Claims { owns: vec![Claim::Checkout("/srv/code".into())], ..directory("/srv/code") };
    let made = graph(&[(&[], linked("/opt/app", "/srv/code/current")), (&[], code.clone())]).unwrap();
    assert_eq!(made.before(0), [(1, Reason::Read("/srv/code/current".into()))]);
    let made = graph(&[(&[], linked("/srv", "/srv/code/up")), (&[], code)]).unwrap();
    assert_eq!(made.sequence(), [0, 1]);
}

#[test]
fn a_name_in_another_case_is_a_table_of_redshift_at_most() {
    let table = |own: &str, parent: &str| {
        let database = Database::Connection("w".into());
        Claims {
            owns: vec![Claim::Table { database: database.clone(), name: own.into() }],
            needs: vec![Need::Table { database, name: parent.into() }],
            ..Claims::default()
        }
    };
    let made = graph(&[(&[], table("s.a", "s.B")), (&[], table("s.b", "s.c"))]).unwrap();
    assert_eq!(made.before(0), [(1, Reason::TableOfRedshift)]);
    let made = graph(&[(&[], table("s.a", "s.B")), (&[], table("s.b", "s.a"))]).unwrap();
    assert_eq!(made.sequence(), [0, 1]);
}

#[test]
fn edits_in_one_directory_share_a_lock_without_an_order() {
    let edits = |path: &str| Claims { edits: vec![path.into()], ..Claims::default() };
    let graph = graph(&[(&[1], edits("/srv")), (&[], edits("/srv")), (&[], edits("/opt"))]).unwrap();
    assert_eq!(graph.locks(0), graph.locks(1));
    assert_ne!(graph.locks(1), graph.locks(2));
    assert_eq!(graph.sequence(), [1, 0, 2]);
    assert_eq!(graph.lock_count(), 2);
}
