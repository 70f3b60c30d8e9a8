//! The list of kinds, and the types that can be any of them.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::de::{DeserializeSeed, Deserializer};
use serde::{Deserialize, Serialize};

use crate::plan::claim::Unseen;

use super::adopt::{Adopted, Adoption, FromCatalog, Probe, Subject};
use super::{
    Cause, Change, Claim, Claims, Description, Diff, Effect, ExecuteContext, Failure, Host, KeyError, KindInfo,
    ObserveContext, Reaction, Rescues, Resource, Site, SubjectState,
};

/// A visitor of all kinds.
#[cfg(test)]
pub trait KindVisitor {
    fn visit<R: Resource>(&mut self);
}

macro_rules! kinds {
    ($($variant:ident in $module:ident),* $(,)?) => {
        /// The kinds, in the order of the documentation.
        pub const KINDS: &[KindInfo] = &[$(<super::$module::$variant as Resource>::INFO),*];

        /// The names of the kinds in plan files and events.
        pub const KIND_NAMES: &[&str] = &[$(<super::$module::$variant as Resource>::INFO.name),*];

        /// The reference of each kind's keys.
        pub const REFERENCES: &[(&str, &super::reference::Reference)] = &[$((
            <super::$module::$variant as Resource>::INFO.name,
            <super::$module::$variant as Resource>::REFERENCE,
        )),*];

        /// Visits each kind.
        #[cfg(test)]
        pub fn visit_kinds(visitor: &mut impl KindVisitor) {
            $(visitor.visit::<super::$module::$variant>();)*
        }

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

        /// Removes the temporary files of observations in this process. Called when the process exits.
        pub fn cleanup_on_exit() {
            $(<super::$module::$variant as Resource>::cleanup_on_exit();)*
        }

        /// The kinds whose steps are written from a catalog, by their names.
        pub fn adoptions_from_catalog() -> Vec<(&'static str, FromCatalog)> {
            let mut found = Vec::new();
            $(if let Adoption::Warehouse(from) = <super::$module::$variant as Resource>::ADOPTION {
                found.push((<super::$module::$variant as Resource>::INFO.name, from));
            })*
            found
        }

        macro_rules! each {
            ($any:expr, $resource:ident => $result:expr) => {
                match $any { $(AnyResource::$variant($resource) => $result),* }
            };
        }

        impl AnyResource {
            /// [`Resource::INFO`]
            pub fn info(&self) -> &'static KindInfo {
                match self { $(AnyResource::$variant(_) => const { &<super::$module::$variant as Resource>::INFO }),* }
            }

            /// Returns the name of its kind.
            pub fn kind(&self) -> &'static str {
                self.info().name
            }

            /// [`Resource::remarks`]
            pub fn remarks(&self) -> Vec<KeyError> {
                each!(self, resource => resource.remarks())
            }

            /// [`Resource::claims`]
            pub fn claims(&self, host: &dyn Host) -> Claims {
                each!(self, resource => resource.claims(host))
            }

            /// [`Resource::reads`]
            pub fn reads(&self, home: Option<&Path>, host: &dyn Host) -> Vec<PathBuf> {
                each!(self, resource => resource.reads(home, host))
            }

            /// [`Resource::text_of_file`]
            pub fn text_of_file(&self) -> Option<String> {
                each!(self, resource => resource.text_of_file())
            }

            /// [`Resource::observed_claims`]
            pub fn observed_claims(&self, actual: &AnyActual) -> Vec<Claim> {
                match (self, actual) {
                    $((AnyResource::$variant(resource), AnyActual::$variant(actual)) => {
                        resource.observed_claims(actual)
                    })*
                    _ => Vec::new(),
                }
            }

            /// Returns its target for output: the first thing that it owns.
            pub fn target(&self) -> String {
                self.claims(&Unseen).owns.first().map(Claim::to_string).unwrap_or_default()
            }

            /// [`Resource::site`]
            pub fn site(&self) -> Site<'_> {
                each!(self, resource => resource.site())
            }

            /// Returns the name of its connection. See [`Resource::site`].
            pub fn connection(&self) -> Option<&str> {
                self.site().connection()
            }

            /// [`Resource::rescues`]
            pub fn rescues(&self) -> Option<&dyn Rescues> {
                each!(self, resource => resource.rescues())
            }

            /// [`Resource::manual`]
            pub fn manual(&self) -> Vec<String> {
                each!(self, resource => resource.manual())
            }

            /// [`Resource::effect`]. A change of another kind counts as altering everything.
            pub fn effect(&self, change: &AnyChange, path: &Path) -> Effect {
                match (self, change) {
                    $((AnyResource::$variant(resource), AnyChange::$variant(change)) => resource.effect(change, path),)*
                    _ => Effect::Alters,
                }
            }

            /// [`Reacts::subject`](super::Reacts::subject)
            pub fn subject(&self, actual: &AnyActual) -> Option<PathBuf> {
                match (self, actual) {
                    $((AnyResource::$variant(resource), AnyActual::$variant(actual)) => {
                        resource.reacts()?.subject(actual)
                    })*
                    _ => None,
                }
            }

            /// [`Reacts::stale`](super::Reacts::stale)
            pub fn stale(&self, actual: &AnyActual, change: &AnyChange) -> Vec<String> {
                match (self, actual, change) {
                    $((AnyResource::$variant(resource), AnyActual::$variant(actual), AnyChange::$variant(change)) => {
                        resource.reacts().map(|reacts| reacts.stale(actual, change)).unwrap_or_default()
                    })*
                    _ => Vec::new(),
                }
            }

            /// [`Reacts::follow_ups`](super::Reacts::follow_ups)
            pub fn follow_ups(&self, actual: &AnyActual, cause: &Cause<'_>) -> Vec<Reaction> {
                match (self, actual) {
                    $((AnyResource::$variant(resource), AnyActual::$variant(actual)) => {
                        resource.reacts().map(|reacts| reacts.follow_ups(actual, cause)).unwrap_or_default()
                    })*
                    _ => Vec::new(),
                }
            }

            /// Reads the current state of the subject of a follow-up: [`Resource::READ_SUBJECT`].
            pub fn read_subject(subject: &Path, argv: &[String]) -> SubjectState {
                let kinds = [$(<super::$module::$variant as Resource>::READ_SUBJECT),*];
                let mut states = kinds.into_iter().flatten().map(|read| read(subject, argv));
                states.find(|state| *state != SubjectState::Unknown).unwrap_or(SubjectState::Unknown)
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
                        let Diff { changes, drift, obstacles, unchecked, busy, facts, notes, warnings } = resource.diff(actual)?;
                        let changes = changes.into_iter().map(AnyChange::$variant).collect();
                        Ok(Diff { changes, drift, obstacles, unchecked, busy, facts, notes, warnings })
                    })*
                    _ => Err(Failure::new("the observed state belongs to another kind than the step")),
                }
            }

            /// [`Resource::execute`]
            pub async fn execute(&self, change: &AnyChange, cx: &ExecuteContext) -> Result<(), Failure> {
                match (self, change) {
                    $((AnyResource::$variant(resource), AnyChange::$variant(change)) => {
                        resource.execute(change, cx).await
                    })*
                    _ => Err(Failure::new("the change belongs to another kind than the step")),
                }
            }

            /// The resources with which a subject of the host can be observed for adoption, in the order of the kinds.
            pub fn probes(subject: &Subject) -> Vec<Result<Probe<Self>, Failure>> {
                let mut found = Vec::new();
                $(if let Adoption::Host { probe, .. } = <super::$module::$variant as Resource>::ADOPTION {
                    found.extend(probe(subject).map(|probe| probe.map(|probe| probe.map(AnyResource::$variant))));
                })*
                found
            }

            /// The step for what was observed with this resource, a probe.
            pub fn adopt(&self, actual: &AnyActual) -> Result<Adopted, Failure> {
                match (self, actual) {
                    $((AnyResource::$variant(resource), AnyActual::$variant(actual)) => {
                        match <super::$module::$variant as Resource>::ADOPTION {
                            Adoption::Host { step, .. } => step(resource, actual),
                            Adoption::None | Adoption::Warehouse(_) => Err(Failure::new("steps of its kind cannot be adopted")),
                        }
                    })*
                    _ => Err(Failure::new("the observed state is of another kind than the step")),
                }
            }

            /// Returns a seed that deserializes a resource of the kind with this name, which is one of [`KIND_NAMES`].
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

            /// [`Change::hide`]
            pub fn hide(&mut self, has_secret: &dyn Fn(&str) -> bool) {
                match self { $(AnyChange::$variant(change) => change.hide(has_secret)),* }
            }

            /// [`Change::without_lines`]
            pub fn without_lines(&self) -> Self {
                match self { $(AnyChange::$variant(change) => AnyChange::$variant(change.without_lines())),* }
            }

            /// [`Change::size`]
            pub fn size(&self) -> u64 {
                match self { $(AnyChange::$variant(change) => change.size()),* }
            }
        }

        impl<'de> DeserializeSeed<'de> for KindSeed {
            type Value = Result<AnyResource, KeyError>;

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
                $(if self.0 == <super::$module::$variant as Resource>::INFO.name {
                    let read = <super::$module::$variant as Resource>::read(deserializer)?;
                    return Ok(read.map(AnyResource::$variant));
                })*
                Err(serde::de::Error::unknown_variant(self.0, KIND_NAMES))
            }
        }
    };
}

/// Returns the kind with this name, if there is one.
pub fn kind_info(name: &str) -> Option<&'static KindInfo> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// Deserializes a resource whose kind is known by name.
#[derive(Debug, Clone, Copy)]
pub struct KindSeed(&'static str);

kinds! {
    Directory in directory,
    File in file,
    KeyFile in key_file,
    ComposeEnv in compose_env,
    Repository in repository,
    Table in table,
    PeriodTables in period_tables,
}
