//! Tests the order of versions in the cache.

use super::*;
use crate::cluster::kinds::VolumeSnapshot;
use serde_json::json;

fn snapshot(name: &str, uid: &str, version: &str) -> VolumeSnapshot {
    owned(name, uid, version, "")
}

fn owned(name: &str, uid: &str, version: &str, group: &str) -> VolumeSnapshot {
    let mut object = json!({
        "metadata": {"namespace": "shop", "name": name, "uid": uid, "resourceVersion": version},
    });
    if !group.is_empty() {
        object["status"] = json!({"volumeGroupSnapshotName": group});
    }
    serde_json::from_value(object).expect("a VolumeSnapshot")
}

/// The contents of the cache: name, uid and version.
fn held(kind_cache: &KindCache<VolumeSnapshot>) -> Vec<(String, String, String)> {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    kind_cache
        .all()
        .map(|object| &object.metadata)
        .map(|meta| (text(&meta.name), text(&meta.uid), text(&meta.resource_version)))
        .collect()
}

fn check(kind_cache: &KindCache<VolumeSnapshot>, expected: &[(&str, &str, &str)]) {
    let owned = |t: &(&str, &str, &str)| (t.0.to_owned(), t.1.to_owned(), t.2.to_owned());
    assert_eq!(held(kind_cache), expected.iter().map(owned).collect::<Vec<_>>());
}

fn listed(objects: Vec<VolumeSnapshot>) -> KindCache<VolumeSnapshot> {
    let mut kind_cache = KindCache::default();
    relist(&mut kind_cache, objects);
    kind_cache
}

fn relist(kind_cache: &mut KindCache<VolumeSnapshot>, objects: Vec<VolumeSnapshot>) {
    kind_cache.apply(Event::Init);
    objects.into_iter().for_each(|object| drop(kind_cache.apply(Event::InitApply(object))));
    kind_cache.apply(Event::InitDone);
}

#[test]
fn older_event_never_overwrites_response() {
    let mut kind_cache = listed(vec![snapshot("a", "u1", "5")]);
    assert!(!kind_cache.upsert(Arc::new(snapshot("a", "u1", "10")), 0).is_empty());
    assert!(
        kind_cache.apply(Event::Apply(snapshot("a", "u1", "9"))).is_empty(),
        "nothing changed, nobody is woken"
    );
    check(&kind_cache, &[("a", "u1", "10")]);
    kind_cache.apply(Event::Apply(snapshot("a", "u1", "11")));
    check(&kind_cache, &[("a", "u1", "11")]);
}

#[test]
fn versions_are_numbers_not_texts() {
    let mut kind_cache = listed(vec![snapshot("a", "u1", "9")]);
    kind_cache.apply(Event::Apply(snapshot("a", "u1", "10")));
    check(&kind_cache, &[("a", "u1", "10")]);
}

#[test]
fn late_events_do_not_restore_deleted_object() {
    let mut kind_cache = listed(vec![snapshot("a", "u1", "5")]);
    assert!(!kind_cache.remove("shop", "a", "u1").is_empty());
    assert!(kind_cache.apply(Event::Apply(snapshot("a", "u1", "8"))).is_empty());
    check(&kind_cache, &[]);
    kind_cache.apply(Event::Delete(snapshot("a", "u1", "9")));
    kind_cache.apply(Event::Apply(snapshot("a", "u2", "10")));
    check(&kind_cache, &[("a", "u2", "10")]);
}

#[test]
fn deletion_does_not_remove_successor_object() {
    let mut kind_cache = listed(vec![snapshot("a", "u1", "5")]);
    kind_cache.upsert(Arc::new(snapshot("a", "u2", "9")), 0);
    kind_cache.apply(Event::Delete(snapshot("a", "u1", "8")));
    kind_cache.remove("shop", "a", "u1");
    check(&kind_cache, &[("a", "u2", "9")]);
}

#[test]
fn late_response_does_not_restore_deleted_object() {
    let mut kind_cache = listed(vec![snapshot("a", "u1", "5")]);
    kind_cache.apply(Event::Delete(snapshot("a", "u1", "7")));
    kind_cache.upsert(Arc::new(snapshot("a", "u1", "6")), 0);
    check(&kind_cache, &[]);
}

#[test]
fn relist_removes_unlisted_objects() {
    let mut kind_cache = listed(vec![snapshot("a", "u1", "5"), snapshot("b", "u2", "6")]);
    relist(&mut kind_cache, vec![snapshot("b", "u2", "6")]);
    check(&kind_cache, &[("b", "u2", "6")]);
}

#[test]
fn relist_does_not_remove_newer_objects() {
    let mut kind_cache = listed(vec![snapshot("a", "u1", "5")]);
    kind_cache.apply(Event::Init);
    kind_cache.upsert(Arc::new(snapshot("b", "u2", "9")), 0);
    kind_cache.apply(Event::InitApply(snapshot("a", "u1", "5")));
    kind_cache.apply(Event::InitDone);
    check(&kind_cache, &[("a", "u1", "5"), ("b", "u2", "9")]);
}

#[test]
fn older_list_does_not_restore_deleted_object() {
    let mut kind_cache = listed(vec![snapshot("a", "u1", "5")]);
    kind_cache.remove("shop", "a", "u1");
    relist(&mut kind_cache, vec![snapshot("a", "u1", "5")]);
    kind_cache.apply(Event::Apply(snapshot("a", "u1", "6")));
    check(&kind_cache, &[]);
    assert_eq!(kind_cache.tombstones.len(), 1);
    relist(&mut kind_cache, vec![]);
    assert!(kind_cache.tombstones.is_empty(), "a list without it ends the doubt");
}

#[test]
fn the_index_follows_the_objects() {
    let group = IndexKey::Group("shop".into(), "g".into());
    let mut kind_cache = listed(vec![owned("a", "u1", "5", "g"), snapshot("b", "u2", "6")]);
    assert_eq!(kind_cache.about(&group).count(), 1);
    let keys = kind_cache.apply(Event::Apply(snapshot("a", "u1", "7")));
    assert!(keys.contains(&group), "whoever waits for the group hears that it lost a member");
    assert_eq!(kind_cache.about(&group).count(), 0);
    relist(&mut kind_cache, vec![]);
    assert!(kind_cache.index.is_empty());
}

#[test]
fn reads_one_namespace_without_the_others() {
    let mut kind_cache = listed(vec![snapshot("a", "u1", "5")]);
    let mut other = snapshot("a", "u9", "6");
    other.metadata.namespace = Some("shop2".to_owned());
    kind_cache.apply(Event::Apply(other));
    assert_eq!(kind_cache.within("shop").count(), 1);
    assert_eq!(kind_cache.within("nowhere").count(), 0);
}
