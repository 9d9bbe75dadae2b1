//! Simulates a minimal cluster: effects with their preconditions, controllers one phase at a time, storage as
//! a set.
//!
//! It has the behaviour that the machine relies on. A call that tests an old value fails if the value is
//! different. An owner reference returns while a member names an existing group. Deleting a group deletes the
//! objects that it owns. Deleting a content under Delete frees its storage. A content without its annotation
//! never loses its finalizer. Caches and races are not simulated here, but in the embedded cluster
//! (`tests/engine`).

use std::collections::BTreeSet;

use stillpoint::domain::ids::{ObjectId, Uid};
use stillpoint::domain::labels;
use stillpoint::domain::observed::*;
use stillpoint::domain::plan::Plan;
use stillpoint::domain::time::Timestamp;
use stillpoint::machine::group::effect::Effect;
use stillpoint::machine::group::effect::EffectKind;
use stillpoint::machine::kit::Entry;
use stillpoint::machine::kit::Outcome;

use crate::fixture::at;

/// All existing objects, and the state of the driver.
#[derive(Clone)]
pub struct Cluster {
    pub seen: Observation,
    /// Physical snapshots, by handle.
    pub storage: BTreeSet<String>,
    pub now: Timestamp,
    /// Whether the controller freezes a volume that is not in the plan.
    pub freezes_more: bool,
    /// Error that the driver returns instead of cutting.
    pub driver_says: Option<&'static str>,
    /// Whether the controller uses an old cache and leaves the content of a group that is being deleted.
    pub leaves_content: bool,
    /// Handles of the import.
    pub(super) imported: Vec<String>,
    pub(super) plan: Plan,
    made: u64,
}

pub(super) type Refused = Outcome;

pub(super) fn refused(code: u16, message: &str) -> Refused {
    Outcome::Determinate { code, message: message.to_owned() }
}

fn missing() -> Refused {
    refused(404, "not found")
}

/// The test of an old value, as in a JSON patch.
pub(super) fn test(holds: bool, what: &str) -> Result<(), Refused> {
    if holds { Ok(()) } else { Err(refused(422, &format!("the test of {what} failed"))) }
}

fn write(entries: &mut Entries, entry: &Entry) {
    entries.get_or_insert_default().extend(entry.write.clone());
}

impl Cluster {
    pub fn of(plan: &Plan) -> Self {
        let claim = |member: &stillpoint::domain::plan::PlannedMember| ClaimSeen {
            id: ObjectId {
                namespace: "shop".into(),
                name: member.claim.clone(),
                uid: member.claim_uid.clone(),
            },
            volume: Some(member.volume.clone()),
            terminating: false,
        };
        let claims = plan.members.iter().map(claim).collect();
        Self {
            seen: Observation {
                epoch: 1,
                claims,
                class_exists: true,
                namespace: Some(NamespaceSeen::default()),
                ..Observation::default()
            },
            storage: BTreeSet::new(),
            now: at(1),
            freezes_more: false,
            driver_says: None,
            leaves_content: false,
            imported: vec![],
            plan: plan.clone(),
            made: 0,
        }
    }

    /// Restores an earlier state of all objects. The clock and the counter go on, so that no uid or version
    /// is used twice.
    pub fn put_back(&mut self, before: Cluster) {
        let (now, made) = (self.now, self.made);
        *self = Cluster { now, made, ..before };
        self.seen.fresh = false;
    }

    fn id(&mut self, namespace: &str, name: &str) -> ObjectId {
        self.made += 1;
        ObjectId { namespace: namespace.into(), name: name.into(), uid: Uid(format!("uid-{}", self.made)) }
    }

    pub(super) fn version(&mut self) -> String {
        self.made += 1;
        self.made.to_string()
    }

    /// Applies a call if its preconditions hold.
    pub fn perform(&mut self, effect: &Effect) -> Outcome {
        self.seen.fresh = false;
        let deletes = matches!(
            effect.kind(),
            EffectKind::DeleteGroup
                | EffectKind::DeleteGroupContent
                | EffectKind::DeleteSnapshot
                | EffectKind::DeleteContent
        );
        match self.try_perform(effect) {
            // Deleting a missing object succeeds, as in `cluster::perform`.
            Err(Outcome::Determinate { code: 404, .. }) if deletes => {
                Outcome::Done { uid: String::new(), resource_version: String::new() }
            }
            // An object that is deleted at once has no version.
            Ok(uid) if uid.0.is_empty() => Outcome::Done { uid: uid.0, resource_version: String::new() },
            Ok(uid) => Outcome::Done { uid: uid.0, resource_version: self.version() },
            Err(refused) => refused,
        }
    }

    fn try_perform(&mut self, effect: &Effect) -> Result<Uid, Refused> {
        match effect {
            Effect::CreateGroup { name, labels, annotations, .. } => {
                test(self.seen.group.is_none(), "absence").map_err(|_| refused(409, "already exists"))?;
                let id = self.id("shop", name);
                let epoch = annotations.get(labels::EPOCH).and_then(|epoch| epoch.parse().ok());
                let run = labels.get(labels::RUN).cloned();
                let resource_version = self.version();
                let group = GroupSnapshotSeen {
                    id,
                    resource_version,
                    run,
                    epoch,
                    journal: None,
                    bound_content: None,
                    ready: false,
                    terminating: false,
                    protected: false,
                    finalizers: Vec::new(),
                    error: None,
                };
                Ok(self.seen.group.insert(group).id.uid.clone())
            }
            Effect::ClaimGroup { group, old, new } => {
                let seen = self.group(group)?;
                test(seen.epoch.map(|epoch| epoch.to_string()) == *old, "the epoch")?;
                seen.epoch = Some(*new);
                Ok(group.uid.clone())
            }
            Effect::DeleteGroup { group, resource_version } => {
                let seen = self.group(group)?;
                test(seen.resource_version == *resource_version, "the version")?;
                seen.terminating = true;
                Ok(group.uid.clone())
            }
            Effect::LabelMember { snapshot, labels, annotations } => {
                let seen = self.snapshot(snapshot)?;
                write(&mut seen.labels, labels);
                write(&mut seen.annotations, annotations);
                Ok(snapshot.uid.clone())
            }
            Effect::SetGroupName { snapshot, old, new } => {
                let seen = self.snapshot(snapshot)?;
                test(seen.group_name == *old, "the group name")?;
                seen.group_name = new.clone();
                Ok(snapshot.uid.clone())
            }
            Effect::DetachMember { snapshot, .. } => self.detach(effect).map(|()| snapshot.uid.clone()),
            Effect::SetGroupContentPolicy { content, resource_version, old, new, labels, annotations } => {
                let version = self.version();
                let seen = self.group_content(content)?;
                test(seen.resource_version == *resource_version && seen.policy == *old, "the policy")?;
                (seen.policy, seen.resource_version) = (*new, version);
                write(&mut seen.labels, labels);
                write(&mut seen.annotations, annotations);
                Ok(content.uid.clone())
            }
            Effect::SetContentPolicy { content, resource_version, old, new, labels, annotations } => {
                let version = self.version();
                let seen = self.content(content)?;
                test(seen.resource_version == *resource_version && seen.policy == *old, "the policy")?;
                (seen.policy, seen.resource_version) = (*new, version);
                write(&mut seen.labels, labels);
                write(&mut seen.annotations, annotations);
                Ok(content.uid.clone())
            }
            Effect::MarkGroupContent { content, annotations } => {
                let version = self.version();
                let seen = self.group_content(content)?;
                (seen.marked_deleted, seen.resource_version) = (true, version);
                write(&mut seen.annotations, annotations);
                Ok(content.uid.clone())
            }
            Effect::DeleteGroupContent { content, .. } if self.seen.stub.as_ref() == Some(content) => {
                self.seen.stub = None;
                Ok(content.uid.clone())
            }
            Effect::DeleteGroupContent { content, resource_version } if self.is_import(content) => {
                self.delete_import(resource_version.as_deref())
            }
            Effect::DeleteGroupContent { content, resource_version } => {
                let seen = self.group_content(content)?;
                let same = resource_version.as_ref().is_none_or(|version| *version == seen.resource_version);
                test(same, "the version")?;
                if !seen.protected {
                    // Without a finalizer it is deleted at once, and its storage is never freed.
                    self.seen.content = None;
                    return Ok(Uid(String::new()));
                }
                // The controller annotates contents that the release deletes.
                (seen.terminating, seen.marked_deleted) = (true, true);
                Ok(content.uid.clone())
            }
            Effect::DeleteSnapshot { snapshot } => {
                self.snapshot(snapshot)?.terminating = true;
                Ok(snapshot.uid.clone())
            }
            Effect::DeleteContent { content, resource_version, annotations } => {
                let seen = self.content(content)?;
                let same = resource_version.as_ref().is_none_or(|version| *version == seen.resource_version);
                test(same, "the version")?;
                write(&mut seen.annotations, annotations);
                seen.terminating = true;
                Ok(content.uid.clone())
            }
            Effect::CreateImport { content, .. } => self.import(content),
            Effect::CreateStub(stub) => {
                test(self.seen.stub.is_none(), "absence").map_err(|_| refused(409, "already exists"))?;
                let id = self.id("", &stub.name);
                Ok(self.seen.stub.insert(id).uid.clone())
            }
            Effect::CreateContent { .. } | Effect::CreateSnapshot { .. } => self.rebuild(effect),
        }
    }

    fn detach(&mut self, effect: &Effect) -> Result<(), Refused> {
        let Effect::DetachMember {
            snapshot,
            ready,
            group_name,
            old_owners,
            new_owners,
            old_finalizers,
            new_finalizers,
            old_class,
            new_class,
        } = effect
        else {
            return Err(missing());
        };
        let seen = self.snapshot(snapshot)?;
        test((seen.ready || !ready) && seen.group_name == *group_name, "readiness and group name")?;
        test(seen.owners == *old_owners && seen.finalizers == *old_finalizers, "owners and finalizers")?;
        test(seen.class == *old_class, "the class")?;
        (seen.owners, seen.finalizers) = (new_owners.clone(), new_finalizers.clone());
        seen.class = new_class.clone();
        Ok(())
    }

    fn rebuild(&mut self, effect: &Effect) -> Result<Uid, Refused> {
        match effect {
            Effect::CreateContent { name, snapshot_handle, snapshot_name, labels, annotations, .. } => {
                let free = !self.seen.contents.iter().any(|content| content.id.name == *name);
                test(free, "absence").map_err(|_| refused(409, "already exists"))?;
                let content = ContentSeen {
                    snapshot_handle: Some(snapshot_handle.clone()),
                    snapshot_name: snapshot_name.clone(),
                    policy: DeletionPolicy::Retain,
                    labels: Some(labels.clone()),
                    annotations: Some(annotations.clone()),
                    ..self.new_content(name)
                };
                let uid = content.id.uid.clone();
                self.seen.contents.push(content);
                Ok(uid)
            }
            Effect::CreateSnapshot { name, content, class, labels, annotations, .. } => {
                let free = !self.seen.snapshots.iter().any(|snapshot| snapshot.id.name == *name);
                test(free, "absence").map_err(|_| refused(409, "already exists"))?;
                let snapshot = SnapshotSeen {
                    class: Some(class.clone()),
                    labels: Some(labels.clone()),
                    annotations: Some(annotations.clone()),
                    ..self.new_snapshot(name, content)
                };
                let uid = snapshot.id.uid.clone();
                self.seen.snapshots.push(snapshot);
                Ok(uid)
            }
            _ => Err(missing()),
        }
    }

    pub(super) fn new_content(&mut self, name: &str) -> ContentSeen {
        ContentSeen {
            id: self.id("", name),
            resource_version: self.version(),
            policy: DeletionPolicy::Delete,
            volume_handle: None,
            snapshot_handle: None,
            group_handle: None,
            snapshot_namespace: "shop".into(),
            snapshot_name: String::new(),
            snapshot_uid: None,
            ready: true,
            created_at: Some(self.now),
            restore_size: Some(1 << 30),
            volume_mode: Some("Filesystem".into()),
            error: None,
            finalizers: Vec::new(),
            terminating: false,
            labels: None,
            annotations: None,
        }
    }

    pub(super) fn new_snapshot(&mut self, name: &str, content: &str) -> SnapshotSeen {
        SnapshotSeen {
            id: self.id("shop", name),
            resource_version: self.version(),
            claim: None,
            bound_content: Some(content.to_owned()),
            ready: false,
            group_name: None,
            error: None,
            class: None,
            owners: vec![],
            finalizers: vec![],
            terminating: false,
            labels: None,
            annotations: None,
            created_at: Some(self.now),
        }
    }

    fn group(&mut self, id: &ObjectId) -> Result<&mut GroupSnapshotSeen, Refused> {
        self.seen.group.as_mut().filter(|seen| seen.id.uid == id.uid).ok_or_else(missing)
    }

    fn group_content(&mut self, id: &ObjectId) -> Result<&mut GroupContentSeen, Refused> {
        self.seen.content.as_mut().filter(|seen| seen.id.uid == id.uid).ok_or_else(missing)
    }

    fn snapshot(&mut self, id: &ObjectId) -> Result<&mut SnapshotSeen, Refused> {
        self.seen.snapshots.iter_mut().find(|seen| seen.id.uid == id.uid).ok_or_else(missing)
    }

    fn content(&mut self, id: &ObjectId) -> Result<&mut ContentSeen, Refused> {
        self.seen.contents.iter_mut().find(|seen| seen.id.uid == id.uid).ok_or_else(missing)
    }

    /// A content under Delete without a group and without a handle.
    pub(super) fn new_group_content(&mut self, name: &str) -> GroupContentSeen {
        GroupContentSeen {
            id: self.id("", name),
            resource_version: self.version(),
            group_uid: None,
            policy: DeletionPolicy::Delete,
            volume_handles: vec![],
            group_handle: None,
            created_at: None,
            cuts: vec![],
            error: None,
            terminating: false,
            protected: true,
            finalizers: Vec::new(),
            marked_deleted: false,
            secret: None,
            labels: None,
            annotations: None,
        }
    }

    /// Creates a stub that the run did not request.
    pub fn makes_stub(&mut self) {
        let name = stillpoint::domain::names::stub_content(self.plan.run);
        self.seen.stub = Some(self.id("", &name));
    }
}
