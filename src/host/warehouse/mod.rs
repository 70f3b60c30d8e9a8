//! Placeholder until the warehouse lands.
#[derive(Debug, Clone, Default)]
pub struct Wanted;
impl Wanted {
    pub fn extend(&mut self, _: Wanted) {}
}
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionSpec {
    pub url: String,
    pub password: Option<super::secret::SecretSource>,
}
pub struct Warehouse;
impl Warehouse {
    pub fn new(_: &str, _: ConnectionSpec, _: Option<super::secret::Secret>, _: Wanted) -> Self {
        Self
    }
}
