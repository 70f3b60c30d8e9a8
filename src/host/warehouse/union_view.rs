//! Recognises views that are only a UNION ALL of tables, in the servers' own notation of their definitions.
//!
//! PostgreSQL qualifies columns with their table, and leaves out a schema that is on the search path. Redshift puts each
//! SELECT in parentheses, or shows the whole statement that has created a view `WITH NO SCHEMA BINDING`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::name::{TableName, fold};

/// One SELECT of the view: columns of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    pub table: TableName,
    pub columns: Vec<String>,
    /// Whether the view has other names for some of the columns.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_renamed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// An unquoted word, folded.
    Word(String),
    Quoted(String),
    Mark(char),
}

/// Returns the branches of a definition, if the view is only a UNION ALL. `reads` are the relations that the view depends on. They
/// supply the schema of a name without one.
pub(super) fn parse(definition: &str, reads: &BTreeSet<TableName>) -> Option<Vec<Branch>> {
    let tokens = tokens(definition)?;
    let mut parser = Parser { rest: &tokens, reads };
    if parser.word("create") {
        while !parser.word("as") {
            parser.next()?;
        }
    }
    let mut branches = vec![parser.branch()?];
    while parser.word("union") {
        if !parser.word("all") {
            return None;
        }
        branches.push(parser.branch()?);
    }
    if parser.word("with") && !["no", "schema", "binding"].iter().all(|word| parser.word(word)) {
        return None;
    }
    parser.rest.iter().all(|token| *token == Token::Mark(';')).then_some(branches)
}

struct Parser<'a> {
    rest: &'a [Token],
    reads: &'a BTreeSet<TableName>,
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Option<&'a Token> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn word(&mut self, word: &str) -> bool {
        let is_next = matches!(self.rest.first(), Some(Token::Word(next)) if next == word);
        if is_next {
            self.rest = &self.rest[1..];
        }
        is_next
    }

    fn mark(&mut self, mark: char) -> bool {
        let is_next = self.rest.first() == Some(&Token::Mark(mark));
        if is_next {
            self.rest = &self.rest[1..];
        }
        is_next
    }

    fn identifier(&mut self) -> Option<&'a str> {
        match self.next()? {
            Token::Word(name) | Token::Quoted(name) => Some(name),
            Token::Mark(_) => None,
        }
    }

    /// Reads names with dots between them.
    fn path(&mut self) -> Option<Vec<&'a str>> {
        let mut parts = vec![self.identifier()?];
        while self.mark('.') {
            parts.push(self.identifier()?);
        }
        Some(parts)
    }

    fn branch(&mut self) -> Option<Branch> {
        if !self.word("select") {
            return None;
        }
        let mut columns = Vec::new();
        let mut is_renamed = false;
        loop {
            let column = self.path()?.pop()?;
            is_renamed |= self.word("as") && self.identifier()? != column;
            columns.push(column.to_owned());
            if !self.mark(',') {
                break;
            }
        }
        if !self.word("from") {
            return None;
        }
        let table = self.table()?;
        let ends = |token: &Token| matches!(token, Token::Word(word) if word == "union" || word == "with");
        if self.word("as") || self.rest.first().is_some_and(|next| !ends(next) && !matches!(next, Token::Mark(_))) {
            self.identifier()?;
        }
        Some(Branch { table, columns, is_renamed })
    }

    fn table(&mut self) -> Option<TableName> {
        match self.path()?.as_slice() {
            [schema, name] => Some(TableName::new(*schema, *name)),
            [name] => {
                let mut same = self.reads.iter().filter(|read| read.name == *name);
                same.next().filter(|_| same.next().is_none()).cloned()
            }
            _ => None,
        }
    }
}

/// Returns the tokens without parentheses, which have no effect in a UNION ALL of plain SELECTs.
fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '(' | ')' => {}
            letter if letter.is_whitespace() => {}
            '"' => {
                let mut name = String::new();
                loop {
                    match letters.next()? {
                        '"' if letters.next_if_eq(&'"').is_some() => name.push('"'),
                        '"' => break,
                        other => name.push(other),
                    }
                }
                tokens.push(Token::Quoted(name));
            }
            letter if letter.is_alphabetic() || letter == '_' => {
                let mut word = String::from(letter);
                while let Some(next) = letters.next_if(|next| next.is_alphanumeric() || "_$".contains(*next)) {
                    word.push(next);
                }
                tokens.push(Token::Word(fold(&word)));
            }
            mark => tokens.push(Token::Mark(mark)),
        }
    }
    Some(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branches(definition: &str) -> Option<String> {
        let reads = BTreeSet::from([TableName::new("public", "h_1"), TableName::new("public", "h_2")]);
        let branches = parse(definition, &reads)?;
        let shown = branches.iter().map(|one| format!("{}({})", one.table, one.columns.join(",")));
        Some(shown.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_notations_of_the_servers_are_recognised() {
        for definition in [
            " SELECT h_1.a,\n    h_1.\"B c\"\n   FROM d.h_1\nUNION ALL\n SELECT h_2.a,\n    h_2.\"B c\"\n   FROM d.h_2;",
            "(SELECT h_1.a, h_1.\"B c\" FROM d.h_1) UNION ALL (SELECT h_2.a, h_2.\"B c\" FROM d.h_2);",
            "create view d.v as select a, \"B c\" from d.h_1 union all select A, \"B c\" from d.h_2 with no schema binding;",
            "CREATE OR REPLACE VIEW \"d\".\"v\" AS SELECT \"a\", \"B c\" FROM \"d\".\"h_1\" UNION ALL SELECT \"a\", \"B c\" FROM \
             \"d\".\"h_2\" WITH NO SCHEMA BINDING",
            "SELECT x.a AS a, x.\"B c\" FROM d.h_1 x UNION ALL SELECT y.a, y.\"B c\" FROM d.h_2 AS y",
        ] {
            assert_eq!(branches(definition).as_deref(), Some("d.h_1(a,B c) d.h_2(a,B c)"), "{definition}");
        }
        assert_eq!(branches("SELECT h_1.a FROM h_1").as_deref(), Some("public.h_1(a)"));
        let renamed = parse("SELECT h_1.b AS a FROM d.h_1", &BTreeSet::new()).unwrap();
        assert!(renamed[0].is_renamed && renamed[0].columns == ["b"]);
    }

    #[test]
    fn any_other_view_is_not_recognised() {
        for definition in [
            "SELECT 1 AS a",
            "SELECT h.a FROM h",
            "SELECT h_1.a FROM d.h_1 WHERE h_1.a > 1",
            "SELECT h_1.a FROM d.h_1 UNION SELECT h_2.a FROM d.h_2",
            "SELECT count(*) FROM d.h_1",
            "SELECT upper(h_1.a) FROM d.h_1",
            "SELECT h_1.a::text FROM d.h_1",
            "SELECT h_1.a FROM d.h_1, d.h_2",
            "SELECT h_1.a FROM d.h_1 JOIN d.h_2 ON true",
            "SELECT DISTINCT h_1.a FROM d.h_1",
            "SELECT * FROM d.h_1",
            "SELECT h_1.a FROM d.h_1 LIMIT 3",
            "SELECT h_1.a FROM other.d.h_1",
            "SELECT \"a FROM d.h_1",
            "",
        ] {
            assert_eq!(branches(definition), None, "{definition}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_recognised_or_not(text in "((SELECT|UNION ALL|FROM|AS|a|b\\.c|\"x\"|,|\\(|\\)|;|\\PC) ?){0,16}") {
            let _either = parse(&text, &BTreeSet::new());
        }
    }
}
