use proptest::prelude::*;

use super::*;

fn origin(digester: &Digester) -> Origin {
    Origin {
        version: "0.1.0".into(),
        host: "throwaway".into(),
        machine: digester.digest(b"machine"),
        user: "ubuntu".into(),
        uid: 1000,
        file: "/plan.yaml".into(),
        content: digester.digest(b"name: small"),
    }
}

fn saved() -> Saved {
    let digester = Digester::with_key([7; 32]);
    let vars = [
        ("plain", "/home/ubuntu/key.pem"),
        ("url", "https://user:hunter2@example.com/x.git"),
        ("dsn", "host=h password=hunter2"),
    ];
    let vars = vars.into_iter().map(|(name, value)| (name.to_owned(), Var::of(value, &digester))).collect();
    let flags = Flags { only: Vec::new(), skip: Vec::new(), as_of: jiff::civil::date(2026, 3, 1), vars };
    let made = "2026-03-01T12:00:00Z".to_owned();
    Saved::new("run", made, origin(&digester), flags, &digester, Fingerprints::default(), &[])
}

#[test]
fn what_is_written_is_read() {
    let bytes = saved().bytes().unwrap();
    let read = Saved::parse(&bytes).unwrap();
    assert_eq!(read.bytes().unwrap(), bytes);
    assert_eq!(read.flags(), saved().flags());
}

#[test]
fn a_variable_with_a_password_in_it_is_not_kept() {
    let bytes = saved().bytes().unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains("/home/ubuntu/key.pem") && !text.contains("hunter2"), "{text}");
}

#[test]
fn all_that_differs_is_told() {
    let saved = saved();
    let here = origin(saved.digester());
    assert_eq!(saved.check_origin(&here), Ok(()));
    let elsewhere = Origin {
        version: "0.2.0".into(),
        host: "other".into(),
        uid: 0,
        user: "root".into(),
        content: saved.digester().digest(b"name: other"),
        ..here.clone()
    };
    let told = saved.check_origin(&elsewhere).unwrap_err().message;
    for word in ["throwaway", "other", "ubuntu", "root", "0.1.0", "0.2.0", "/plan.yaml"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    let renamed = Origin { machine: saved.digester().digest(b"another"), ..here };
    assert!(saved.check_origin(&renamed).unwrap_err().message.contains("another machine"));
}

#[test]
fn another_format_is_named() {
    let text = String::from_utf8(saved().bytes().unwrap()).unwrap().replace("plan 1", "plan 2");
    assert!(Saved::is_one(text.as_bytes()));
    assert!(Saved::parse(text.as_bytes()).err().unwrap().message.contains("format 2"));
}

proptest! {
    #[test]
    fn a_plan_that_was_cut_off_is_refused(cut in 1usize..2000) {
        let bytes = saved().bytes().unwrap();
        let cut = cut.min(bytes.len() - 1);
        prop_assert!(Saved::is_one(&bytes[..cut]));
        prop_assert!(Saved::parse(&bytes[..cut]).is_err());
    }

    #[test]
    fn a_plan_that_was_altered_is_refused(at in 0usize..2000, bit in 0u8..8) {
        let mut bytes = saved().bytes().unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        prop_assert!(Saved::parse(&bytes).is_err());
    }

    #[test]
    fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        prop_assert!(Saved::parse(&bytes).is_err());
        let headed = [MAGIC.as_bytes(), b"\n", &bytes].concat();
        prop_assert!(Saved::parse(&headed).is_err());
    }
}
