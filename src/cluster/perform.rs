//! Performs effects.
//!
//! `perform` requires a `Durable` intent, which only the journal can issue: an effect before its record is on
//! disk does not compile. One effect is one call (two where [`Calls`] says so), never repeated here. Its
//! result is an [`Outcome`]; the returned object is applied to the caches at once.

use http::Request;
use serde::Deserialize;

use crate::api::Version;
use crate::cluster::call::ToRequest;
use crate::cluster::changed::ObjectChange;
use crate::cluster::classify;
use crate::cluster::connect::Adapter;
use crate::cluster::objects::info;
use crate::domain::ids::{ObjectId, Uid};
use crate::domain::limits;
use crate::journal::Durable;
use crate::machine::kit::{Call, Calls, Intent, Kind, Outcome, Verb};

/// The result of one effect.
#[derive(Debug, Clone)]
pub struct EffectResult {
    /// The outcome, for the journal.
    pub outcome: Outcome,
    /// The returned object, for the caches.
    pub object: Option<ObjectChange>,
}

impl Adapter {
    /// Performs the effect at `index` of a durable intent.
    ///
    /// A delete of a missing object is done: the object is gone. A create of an existing object is refused
    /// with 409; the next decision checks whether the object is ours.
    pub async fn perform(&self, intent: &Durable<Intent>, index: usize) -> EffectResult {
        match intent.get().effects.get(index) {
            Some(calls) => self.carry_out(calls).await,
            None => refused(400, "the intent has no such effect"),
        }
    }

    async fn carry_out(&self, calls: &Calls) -> EffectResult {
        let Ok(_permit) = self.inner.effects.acquire().await else {
            return refused(400, "the adapter is closed");
        };
        match calls {
            Calls::One(call) => self.call(call).await,
            Calls::InOrder(first, then) => match self.call(first).await {
                EffectResult {
                    outcome: Outcome::Done { .. },
                    object: Some(ObjectChange::Gone(kind, id)),
                } => gone(kind, id),
                EffectResult { outcome: Outcome::Done { .. }, .. } => self.call(then).await,
                EffectResult { outcome: Outcome::Determinate { code: 404, .. }, .. } => self.call(then).await,
                failed => failed,
            },
            Calls::Either(first, other) => match self.call(first).await {
                EffectResult { outcome: Outcome::Determinate { code: 422, .. }, .. } => {
                    self.call(other).await
                }
                ended => ended,
            },
            Calls::StartRun(_) => refused(400, "a run is started in the journal, not in the cluster"),
        }
    }

    async fn call(&self, call: &Call) -> EffectResult {
        let request = match self.request(call) {
            Ok(request) => request,
            Err(refused) => return refused,
        };
        match self.send_for(request, |text| read(call, text)).await {
            Ok(performed) => performed,
            Err(error) => match deleted(call) {
                Some(id) if classify::is_missing(&error) => gone(call.kind, id),
                _ => EffectResult { outcome: classify::outcome(&error), object: None },
            },
        }
    }

    fn request(&self, call: &Call) -> Result<Request<Vec<u8>>, EffectResult> {
        let version = match self.group_version() {
            Ok(version) => version,
            Err(problem) if call.kind.is_of_group_api() => return Err(refused(404, &problem.reason)),
            Err(_) => Version::default(),
        };
        call.request(version).map_err(|error| refused(400, &error.to_string()))
    }
}

/// Fields of every answer that is an object or a Status.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Answered {
    kind: Option<String>,
    metadata: AnsweredMeta,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct AnsweredMeta {
    uid: Option<String>,
    resource_version: Option<String>,
}

/// The result of a call that succeeded.
///
/// # Errors
/// The answer is not a JSON object.
fn read(call: &Call, text: &str) -> Result<EffectResult, serde_json::Error> {
    let Answered { kind, metadata } = serde_json::from_str(text)?;
    if let Some(id) = deleted(call).filter(|_| kind.as_deref() == Some("Status")) {
        return Ok(gone(call.kind, id));
    }
    let uid = metadata.uid.unwrap_or_default();
    let resource_version = metadata.resource_version.unwrap_or_default();
    Ok(match (info(call.kind).read)(text) {
        Ok(object) => EffectResult { outcome: Outcome::Done { uid, resource_version }, object: Some(object) },
        Err(error) => {
            let message = limits::clip(&format!("the answer cannot be read: {error}"));
            EffectResult { outcome: Outcome::Indeterminate { message }, object: None }
        }
    })
}

/// The object that the call deletes, if it is a delete.
fn deleted(call: &Call) -> Option<ObjectId> {
    match &call.verb {
        Verb::Delete { uid, .. } => Some(ObjectId {
            namespace: call.namespace.clone(),
            name: call.name.clone(),
            uid: Uid(uid.clone()),
        }),
        _ => None,
    }
}

fn gone(kind: Kind, id: ObjectId) -> EffectResult {
    let outcome = Outcome::Done { uid: id.uid.0.clone(), resource_version: String::new() };
    EffectResult { outcome, object: Some(ObjectChange::Gone(kind, id)) }
}

/// A result without a request: nothing was sent.
fn refused(code: u16, message: &str) -> EffectResult {
    EffectResult { outcome: Outcome::Determinate { code, message: limits::clip(message) }, object: None }
}

#[cfg(test)]
mod tests;
