//! The one list of kinds, and the types that can be any of them.

use crate::failure::Failure;
use std::path::Path;
use std::time::SystemTime;

use serde::de::{DeserializeSeed, Deserializer};
use serde::{Deserialize, Serialize};

use crate::plan::claim::Unseen;

use super::{
    Change, Claim, Claims, Description, Diff, ExecuteContext, Host, ObserveContext, Project, RescueAnswer,
    RescueRequest, Resource, SecretSource,
};

macro_rules! kinds {
    ($($variant:ident in $module:ident),* $(,)?) => {
        /// The kinds' names, as plan files and events have them.
        pub const KINDS: &[&str] = &[$(<super::$module::$variant as Resource>::KIND),*];

        /// A resource of any kind.
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum AnyResource { $($variant(super::$module::$variant)),* }

        /// What was observed of a resource of any kind.
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum AnyActual { $($variant(<super::$module::$variant as Resource>::Actual)),* }

        /// A change to a resource of any kind.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum AnyChange { $($variant(<super::$module::$variant as Resource>::Change)),* }

        /// Removes what observations of this process still have in temporary places. For its end.
        pub fn cleanup_on_exit() {
            $(<super::$module::$variant as Resource>::cleanup_on_exit();)*
        }

        macro_rules! each {
            ($any:expr, $resource:ident => $result:expr) => {
                match $any { $(AnyResource::$variant($resource) => $result),* }
            };
        }

        impl AnyResource {
            /// The name of its kind.
            pub fn kind(&self) -> &'static str {
                match self { $(AnyResource::$variant(_) => <super::$module::$variant as Resource>::KIND),* }
            }

            /// [`Resource::claims`]
            pub fn claims(&self, host: &dyn Host) -> Claims {
                each!(self, resource => resource.claims(host))
            }

            /// [`Resource::seen_claims`]
            pub fn seen_claims(&self, actual: &AnyActual) -> Vec<Claim> {
                match (self, actual) {
                    $((AnyResource::$variant(resource), AnyActual::$variant(actual)) => resource.seen_claims(actual),)*
                    _ => Vec::new(),
                }
            }

            /// What it is about, for output: the first thing that it owns.
            pub fn target(&self) -> String {
                self.claims(&Unseen).owns.first().map(Claim::to_string).unwrap_or_default()
            }

            /// [`Resource::connection`]
            pub fn connection(&self) -> Option<&str> {
                each!(self, resource => resource.connection())
            }

            /// [`Resource::wanted`]
            pub fn wanted(&self, as_of: jiff::civil::Date) -> crate::host::warehouse::CatalogQuery {
                each!(self, resource => resource.wanted(as_of))
            }

            /// [`Resource::secret_source`]
            pub fn secret_source(&self) -> Option<&SecretSource> {
                each!(self, resource => resource.secret_source())
            }

            /// [`Resource::ON_WAREHOUSE`] of the kind with this name.
            pub fn kind_is_of_warehouse(kind: &str) -> bool {
                $((kind == <super::$module::$variant as Resource>::KIND
                    && <super::$module::$variant as Resource>::ON_WAREHOUSE))||*
            }

            /// [`Resource::TELLS_HOW_IT_STANDS`] of the kind with this name.
            pub fn kind_tells_how_it_stands(kind: &str) -> bool {
                $((kind == <super::$module::$variant as Resource>::KIND
                    && <super::$module::$variant as Resource>::TELLS_HOW_IT_STANDS))||*
            }

            /// [`Resource::KEEPS_RESCUES`] of the kind with this name.
            pub fn kind_keeps_rescues(kind: &str) -> bool {
                $((<super::$module::$variant as Resource>::KIND == kind
                    && <super::$module::$variant as Resource>::KEEPS_RESCUES))||*
            }

            /// [`Resource::rescue`]
            pub fn rescue(&self, request: &RescueRequest) -> Result<RescueAnswer, Failure> {
                each!(self, resource => resource.rescue(request))
            }

            /// [`Resource::by_hand`]
            pub fn manual(&self) -> Vec<String> {
                each!(self, resource => resource.manual())
            }

            /// [`Resource::touches`]; a change of another kind is taken to touch everything.
            pub fn touches(&self, change: &AnyChange, path: &Path) -> bool {
                match (self, change) {
                    $((AnyResource::$variant(resource), AnyChange::$variant(change)) => resource.touches(change, path),)*
                    _ => true,
                }
            }

            /// [`Resource::SEES_SERVICES`] of the kind with this name.
            pub fn kind_sees_services(kind: &str) -> bool {
                $((<super::$module::$variant as Resource>::KIND == kind
                    && <super::$module::$variant as Resource>::SEES_SERVICES))||*
            }

            /// [`Resource::SOURCE_KEY`] of the kind with this name.
            pub fn kind_source_key(kind: &str) -> Option<&'static str> {
                $(if kind == <super::$module::$variant as Resource>::KIND {
                    return <super::$module::$variant as Resource>::SOURCE_KEY;
                })*
                None
            }

            /// [`Resource::project`]
            pub fn project(&self, actual: &AnyActual) -> Option<Project> {
                match (self, actual) {
                    $((AnyResource::$variant(resource), AnyActual::$variant(actual)) => resource.project(actual),)*
                    _ => None,
                }
            }

            /// [`Resource::stale_services`]
            pub fn stale_services(&self, actual: &AnyActual, change: &AnyChange) -> Vec<String> {
                match (self, actual, change) {
                    $((AnyResource::$variant(resource), AnyActual::$variant(actual), AnyChange::$variant(change)) => {
                        resource.stale_services(actual, change)
                    })*
                    _ => Vec::new(),
                }
            }

            /// [`Resource::replaces`]
            pub fn replaces(&self, change: &AnyChange, path: &Path) -> bool {
                match (self, change) {
                    $((AnyResource::$variant(resource), AnyChange::$variant(change)) => {
                        resource.replaces(change, path)
                    })*
                    _ => false,
                }
            }

            /// [`Resource::observe`]
            pub async fn observe(&self, cx: &ObserveContext) -> Result<AnyActual, Failure> {
                match self {
                    $(AnyResource::$variant(resource) => resource.observe(cx).await.map(AnyActual::$variant),)*
                }
            }

            /// [`Resource::diff`]
            pub fn diff(&self, actual: &AnyActual) -> Result<Diff<AnyChange>, Failure> {
                match (self, actual) {
                    $((AnyResource::$variant(resource), AnyActual::$variant(actual)) => {
                        let Diff { changes, drift, obstacles, unchecked, facts, notes, warnings } = resource.diff(actual)?;
                        let changes = changes.into_iter().map(AnyChange::$variant).collect();
                        Ok(Diff { changes, drift, obstacles, unchecked, facts, notes, warnings })
                    })*
                    _ => Err(Failure::new("what was observed is of another kind than the step")),
                }
            }

            /// [`Resource::execute`]
            pub async fn execute(&self, change: &AnyChange, cx: &ExecuteContext) -> Result<(), Failure> {
                match (self, change) {
                    $((AnyResource::$variant(resource), AnyChange::$variant(change)) => {
                        resource.execute(change, cx).await
                    })*
                    _ => Err(Failure::new("the change is of another kind than the step")),
                }
            }

            /// Reads a resource of the kind with this name, one of [`KINDS`].
            pub fn seed(kind: &'static str) -> KindSeed {
                KindSeed(kind)
            }
        }

        impl AnyChange {
            /// [`Change::describe`]
            pub fn describe(&self) -> Description {
                match self { $(AnyChange::$variant(change) => change.describe()),* }
            }

            /// [`Change::is_left_of`]
            pub fn is_left_of(&self, planned: &Self) -> bool {
                match (self, planned) {
                    $((AnyChange::$variant(change), AnyChange::$variant(planned)) => change.is_left_of(planned),)*
                    _ => false,
                }
            }

            /// [`Change::is_newer_than`]
            pub fn is_newer_than(&self, time: SystemTime) -> bool {
                match self { $(AnyChange::$variant(change) => change.is_newer_than(time)),* }
            }

            /// [`Change::depends_on`]
            pub fn depends_on(&self, failed: &Self) -> bool {
                match (self, failed) {
                    $((AnyChange::$variant(change), AnyChange::$variant(failed)) => change.depends_on(failed),)*
                    _ => true,
                }
            }

            /// [`Change::parents`]
            pub fn parents(&mut self) -> Option<&mut Vec<String>> {
                match self { $(AnyChange::$variant(change) => change.parents()),* }
            }

            /// [`Change::size`]
            pub fn size(&self) -> u64 {
                match self { $(AnyChange::$variant(change) => change.size()),* }
            }
        }

        impl<'de> DeserializeSeed<'de> for KindSeed {
            type Value = AnyResource;

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<AnyResource, D::Error> {
                $(if self.0 == <super::$module::$variant as Resource>::KIND {
                    return Deserialize::deserialize(deserializer).map(AnyResource::$variant);
                })*
                Err(serde::de::Error::unknown_variant(self.0, KINDS))
            }
        }
    };
}

/// Reads a resource whose kind is known by name.
#[derive(Debug, Clone, Copy)]
pub struct KindSeed(&'static str);

kinds! {
    Directory in directory,
    KeyFile in key_file,
    ComposeEnv in compose_env,
    Repository in repository,
    Table in table,
    PeriodTables in period_tables,
}
