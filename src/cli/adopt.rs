//! `provision adopt`

use std::path::PathBuf;

use super::adopt_words::Word;
use super::args::AdoptArguments;
use super::{Error, Exit, inputs};
use crate::engine::adopt::{NotAdopted, Request, adopt};
use crate::failure::Failure;
use crate::render::output;

/// Prints a plan file for what the host has. Prints none if a part of it cannot be adopted.
pub async fn run(arguments: AdoptArguments) -> Result<Exit, Error> {
    let AdoptArguments { mut paths, variables, tables, series, url_env, password_env } = arguments;
    let variables = values(variables, &mut paths);
    let tables = values(tables, &mut paths);
    let series = values(series, &mut paths);
    if paths.is_empty() && variables.is_empty() && tables.is_empty() && series.is_empty() {
        let hint = "provision adopt PATH…, or --variable FILE:NAME, --table T, --series 'S_{period}'";
        return Err(Failure::new("nothing to adopt was given").hint(hint).into());
    }
    let request =
        Request { paths, variables, tables, series, url_env, password_env, environment: inputs::environment() };
    match adopt(request).await {
        Ok(text) => {
            output::print_content(text.as_bytes());
            Ok(Exit::Done)
        }
        Err(NotAdopted::Stopped(signal)) => Err(Error::stopped(signal)),
        Err(NotAdopted::Failures(failures)) => {
            for failure in failures {
                output::print_error(&format!("{}\n", Error::from(failure)));
            }
            Ok(Exit::Failed)
        }
    }
}

/// Returns the values among the words. Adds the paths to `paths`.
fn values<T>(words: Vec<Word<T>>, paths: &mut Vec<PathBuf>) -> Vec<T> {
    let mut values = Vec::new();
    for word in words {
        match word {
            Word::Value(value) => values.push(value),
            Word::Path(path) => paths.push(path),
        }
    }
    values
}
