//! `stillpoint orphans`: objects and storage that belong to nothing any more. It only reads.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::ObjectMeta;
use serde::Serialize;

use super::common::{OutputArgs, show};
use super::groups::Cluster;
use super::journal::SourceArgs;
use super::output::{self, exit, table};
use crate::audit::orphans::{Item, Kind, Known, ObjectSeen, Standing, judge};
use crate::cluster::kinds::{
    VolumeGroupSnapshot, VolumeGroupSnapshotContent, VolumeSnapshot, VolumeSnapshotContent,
};
use crate::cluster::{Adapter, binding, observe};
use crate::domain::labels;
use crate::domain::problem::Problem;
use crate::domain::text::count;

/// List objects and snapshots in the storage that belong to no run and no Backup any more
///
/// Compares the journal with the cluster, and only reads both. Exit code 3 if something is orphaned.
#[derive(Debug, Args)]
pub struct Orphans {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    cluster: Cluster,
    /// Also list what belongs to runs of this journal
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// The output of the command.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    /// Number of items of each standing, also of those that are not listed.
    counts: BTreeMap<&'static str, usize>,
    items: Vec<Item>,
}

impl Orphans {
    /// Executes the command. Returns 3 if something is orphaned.
    pub async fn execute(self) -> u8 {
        let format = self.output.output;
        let shown = self.run().await;
        shown.unwrap_or_else(|problem| output::report(&problem, format.is_document()))
    }

    async fn run(self) -> Result<u8, Problem> {
        let known = Known::of(&self.source.verified()?);
        let adapter = self.cluster.connect().await?;
        let mut items = judge(&known, &objects(&adapter).await?, &bindings(&adapter).await?);
        let mut counts = BTreeMap::new();
        items.iter().for_each(|item| *counts.entry(item.standing.name()).or_insert(0) += 1);
        let orphaned = items.iter().any(|item| item.standing == Standing::Orphaned);
        items.retain(|item| self.all || matches!(item.standing, Standing::Orphaned | Standing::Foreign));
        show(self.output.output, &Shown { counts, items }, text)?;
        Ok(if orphaned { exit::DEGRADED } else { exit::DONE })
    }
}

/// Every object of the kinds that a run makes.
async fn objects(adapter: &Adapter) -> Result<Vec<ObjectSeen>, Problem> {
    let seen = |kind, meta: &ObjectMeta, handle: Option<String>| {
        let label = |key: &str| meta.labels.as_ref().and_then(|labels| labels.get(key)).cloned();
        let (run, journal) = (label(labels::RUN), label(labels::JOURNAL));
        ObjectSeen { kind, id: observe::id(meta), run, journal, handle }
    };
    let mut objects = Vec::new();
    for object in adapter.list::<VolumeSnapshot>(&(), "", labels::RUN).await? {
        objects.push(seen(Kind::VolumeSnapshot, &object.metadata, None));
    }
    for object in adapter.list::<VolumeSnapshotContent>(&(), "", "").await? {
        let handle = observe::content(&object).snapshot_handle;
        objects.push(seen(Kind::VolumeSnapshotContent, &object.metadata, handle));
    }
    if let Ok(version) = adapter.group_version() {
        for object in adapter.list::<VolumeGroupSnapshot>(&version, "", labels::RUN).await? {
            objects.push(seen(Kind::VolumeGroupSnapshot, &object.metadata, None));
        }
        for object in adapter.list::<VolumeGroupSnapshotContent>(&version, "", labels::RUN).await? {
            objects.push(seen(Kind::VolumeGroupSnapshotContent, &object.metadata, None));
        }
    }
    Ok(objects)
}

/// The namespace of the binding of each journal.
async fn bindings(adapter: &Adapter) -> Result<BTreeMap<String, String>, Problem> {
    let maps = adapter.list::<ConfigMap>(&(), "", &format!("{}=true", labels::EXCLUDE_FROM_BACKUP)).await?;
    let bindings = maps.iter().filter(|map| binding::is_binding(map));
    let named = bindings.filter_map(|map| {
        let journal = binding::parse(map).ok()?.journal.to_string();
        Some((journal, map.metadata.namespace.clone()?))
    });
    Ok(named.collect())
}

fn text(shown: &Shown) -> String {
    let of = |standing: Standing| shown.counts.get(standing.name()).copied().unwrap_or(0);
    let standings = [Standing::Orphaned, Standing::Foreign, Standing::Owned, Standing::Retained];
    let counts = standings.map(|standing| format!("{} {}", of(standing), standing.name())).join(", ");
    let mut text = String::new();
    if !shown.items.is_empty() {
        let rows = shown.items.iter().map(|item| {
            let run = item.run.as_deref().map_or(String::new(), |run| run.chars().take(12).collect());
            [
                item.standing.name().to_owned(),
                item.kind.to_owned(),
                item.namespace.clone(),
                item.name.clone(),
                run,
            ]
        });
        text += &table(&["standing", "kind", "namespace", "name", "run"], rows);
        let reasons: BTreeSet<&str> = shown.items.iter().map(|item| item.reason.as_str()).collect();
        text += "\n";
        reasons.iter().for_each(|reason| text += &format!("{reason}\n"));
        let commands: BTreeSet<&str> =
            shown.items.iter().filter_map(|item| item.command.as_deref()).collect();
        commands.iter().for_each(|command| text += &format!("  {command}\n"));
        text += "\n";
    }
    text + &format!("{}: {counts}\n", count(shown.counts.values().copied().sum::<usize>(), "item"))
}
