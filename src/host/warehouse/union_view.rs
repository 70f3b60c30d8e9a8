//! Recognises views that are only a UNION ALL of tables, in the servers' own notation of their definitions.
//!
//! PostgreSQL qualifies columns with their table, and leaves out a schema that is on the search path. Redshift puts each
//! SELECT in parentheses, or shows the whole statement that has created a view `WITH NO SCHEMA BINDING`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::dialect::Dialect;
use super::name::{TableName, fold};

/// The most parentheses around a SELECT. Redshift writes one pair more for each table.
const MAX_DEPTH: usize = 1000;

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

/// Returns the branches of a definition, if the view is only a UNION ALL of columns of tables. `reads` are the relations that the
/// view depends on. They supply the schema of a name without one.
pub(super) fn parse(definition: &str, reads: &BTreeSet<TableName>, dialect: Dialect) -> Option<Vec<Branch>> {
    let tokens = tokens(definition)?;
    let mut parser = Parser { rest: &tokens, reads, dialect, depth: 0 };
    if parser.word("create") {
        parser.view_header()?;
    }
    let mut branches = Vec::new();
    parser.union(&mut branches)?;
    if parser.word("with") && !["no", "schema", "binding"].iter().all(|word| parser.word(word)) {
        return None;
    }
    parser.rest.iter().all(|token| *token == Token::Mark(';')).then_some(branches)
}

struct Parser<'a> {
    rest: &'a [Token],
    reads: &'a BTreeSet<TableName>,
    dialect: Dialect,
    /// The number of open parentheses.
    depth: usize,
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

    /// Reads a name. An unquoted reserved word is none: it is an operator, a clause or a value such as CURRENT_USER.
    fn identifier(&mut self) -> Option<&'a str> {
        match self.next()? {
            Token::Word(word) if self.dialect.is_reserved(word) => None,
            Token::Word(name) | Token::Quoted(name) => Some(name),
            Token::Mark(_) => None,
        }
    }

    /// Reads a name where no keyword has a meaning: after a dot or AS.
    fn label(&mut self) -> Option<&'a str> {
        match self.next()? {
            Token::Word(name) | Token::Quoted(name) => Some(name),
            Token::Mark(_) => None,
        }
    }

    /// Reads names with dots between them.
    fn path(&mut self) -> Option<Vec<&'a str>> {
        let mut parts = vec![self.identifier()?];
        while self.mark('.') {
            parts.push(self.label()?);
        }
        Some(parts)
    }

    /// Reads `CREATE [OR REPLACE] VIEW name AS` after its first word. A list of the view's columns would rename them.
    fn view_header(&mut self) -> Option<()> {
        if self.word("or") && !self.word("replace") {
            return None;
        }
        self.word("view").then_some(())?;
        self.path()?;
        self.word("as").then_some(())
    }

    /// Reads SELECTs with UNION ALL between them. Parentheses around them have no effect.
    fn union(&mut self, branches: &mut Vec<Branch>) -> Option<()> {
        loop {
            if self.mark('(') {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return None;
                }
                self.union(branches)?;
                self.mark(')').then_some(())?;
                self.depth -= 1;
            } else {
                branches.push(self.select()?);
            }
            if !self.word("union") {
                return Some(());
            }
            self.word("all").then_some(())?;
        }
    }

    fn select(&mut self) -> Option<Branch> {
        self.word("select").then_some(())?;
        let mut selected = Vec::new();
        let mut is_renamed = false;
        loop {
            let path = self.path()?;
            let column = *path.last()?;
            is_renamed |= self.word("as") && self.label()? != column;
            selected.push(path);
            if !self.mark(',') {
                break;
            }
        }
        self.word("from").then_some(())?;
        let written = self.path()?;
        let alias = self.alias()?;
        let columns = selected.iter().map(|path| {
            let column = column_of(path, &written, alias)?;
            (!self.dialect.is_system_column(column)).then(|| column.to_owned())
        });
        Some(Branch { columns: columns.collect::<Option<_>>()?, table: self.table(&written)?, is_renamed })
    }

    /// Reads the other name of a table, if it has one.
    fn alias(&mut self) -> Option<Option<&'a str>> {
        let is_name = match self.rest.first() {
            Some(Token::Word(word)) => !self.dialect.is_reserved(word),
            Some(Token::Quoted(_)) => true,
            Some(Token::Mark(_)) | None => false,
        };
        if self.word("as") || is_name { self.identifier().map(Some) } else { Some(None) }
    }

    fn table(&self, written: &[&str]) -> Option<TableName> {
        match written {
            [schema, name] => Some(TableName::new(*schema, *name)),
            [name] => {
                let mut same = self.reads.iter().filter(|read| read.name == *name);
                same.next().filter(|_| same.next().is_none()).cloned()
            }
            _ => None,
        }
    }
}

/// Returns the column that a path names, if it is one of the table. Other paths lead to a field inside a value.
fn column_of<'a>(path: &[&'a str], table: &[&str], alias: Option<&str>) -> Option<&'a str> {
    let (column, qualifier) = path.split_last()?;
    let is_of_table = match alias {
        Some(alias) => qualifier.is_empty() || qualifier == [alias],
        None => table.ends_with(qualifier),
    };
    is_of_table.then_some(column)
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
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
        let dialect = if definition.contains("iew") { Dialect::Redshift } else { Dialect::Postgresql };
        let branches = parse(definition, &reads, dialect)?;
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
        // PostgreSQL 16 and later qualifies no column of a view with one table.
        assert_eq!(
            branches("SELECT a,\n    \"current_user\"\n   FROM h_1").as_deref(),
            Some("public.h_1(a,current_user)")
        );
        let nested = "((SELECT h_1.a FROM h_1) UNION ALL (SELECT h_2.a FROM h_2)) UNION ALL (SELECT h_2.a FROM h_2);";
        assert_eq!(branches(nested).as_deref(), Some("public.h_1(a) public.h_2(a) public.h_2(a)"));
        assert_eq!(branches("SELECT d.h_1.a FROM d.h_1").as_deref(), Some("d.h_1(a)"));
        let renamed = parse("SELECT h_1.b AS a FROM d.h_1", &BTreeSet::new(), Dialect::Postgresql).unwrap();
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
            "SELECT a, CURRENT_USER AS \"current_user\" FROM d.h_1",
            "create view d.v as select a, sysdate from d.h_1 with no schema binding",
            "create view d.v as select a, getdate() from d.h_1 with no schema binding",
            "create view d.v as select top 3 a from d.h_1 with no schema binding",
            "create view d.v (x, y) as select a, b from d.h_1 with no schema binding",
            "create view d.v as select a, extra.field from d.h_1 with no schema binding",
            "create view d.v as select a, h.extra.field from d.h_1 h with no schema binding",
            "create view d.v as select a, b -- as d.h_1\n from d.h_1 with no schema binding",
            "create materialized view d.v as select a from d.h_1",
            "SELECT h_1.a, h_1.tableoid FROM d.h_1",
            "SELECT h_2.a FROM d.h_1",
            "SELECT h_1.a FROM d.h_1 x(a)",
            "SELECT h_1.a FROM (d.h_1)",
            "SELECT (h_1.a) FROM d.h_1",
            "(SELECT h_1.a FROM d.h_1",
            "SELECT h_1.a FROM d.h_1)",
            "(SELECT h_1.a FROM d.h_1 UNION SELECT h_2.a FROM d.h_2) UNION ALL SELECT h_2.a FROM d.h_2",
            "SELECT \"a FROM d.h_1",
            "",
        ] {
            assert_eq!(branches(definition), None, "{definition}");
        }
        assert_eq!(branches(&"(".repeat(1 << 20)), None, "no depth of parentheses is a problem");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_recognised_or_not(text in "((SELECT|UNION ALL|FROM|AS|a|b\\.c|\"x\"|,|\\(|\\)|;|\\PC) ?){0,16}") {
            for dialect in [Dialect::Postgresql, Dialect::Redshift] {
                let _either = parse(&text, &BTreeSet::new(), dialect);
            }
        }
    }
}
