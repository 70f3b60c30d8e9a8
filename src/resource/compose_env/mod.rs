mod document;
mod dotenv;
mod edit;
mod interpolation;
mod occurrences;
mod scalar;
#[cfg(test)]
mod tests;
