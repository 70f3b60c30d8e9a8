//! tmp
use crate::host::warehouse::{PasswordFile, TunnelSpec};
use crate::resource::Failure;
pub enum Tunnel {}
impl Tunnel {
    pub fn new(_: &TunnelSpec, _: &PasswordFile) -> Self {
        loop {}
    }
    pub async fn channel(&self, _: &str, _: u16) -> Result<tokio::net::UnixStream, Failure> {
        match *self {}
    }
}
