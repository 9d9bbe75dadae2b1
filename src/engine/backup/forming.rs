//! Forms the groups of a Backup: those that can run, and those that cannot, with the reason.

use std::sync::Arc;

use crate::domain::limits;
use crate::domain::plan::{BackupRef, Plan};
use crate::domain::problem::{About, Code, Problem};
use crate::domain::time::Timestamp;
use crate::engine::driver::Context;
use crate::engine::{backup_spec, inventory, preflight};
use crate::machine::backup::{self, BackupPart, FailedGroup, FormedGroups};
use crate::planning::{Formed, RefusedGroup, Request, form_groups};
use crate::records;

/// Forms the groups of a Backup from its object. If the object was deleted or is not valid any more, the whole
/// Backup is refused.
pub(super) async fn form(context: &Context, backup: &BackupRef, label_key: &str) -> FormedGroups {
    let request = match request(context, backup) {
        Ok(request) => Request { label_key: label_key.to_owned(), ..request },
        Err(problem) => {
            return FormedGroups {
                refused: vec![FailedGroup::of("", "", &problem)],
                ..FormedGroups::default()
            };
        }
    };
    let mut formed = form_runs(context, &request).await;
    if !formed.plans.is_empty()
        && let Some(problem) = preflight::missing_permissions(context, &backup.namespace).await
    {
        refuse_all(&mut formed, &problem);
    }
    let mut warnings = formed.warnings;
    let named = |plan: &Plan| {
        let group = format!("group {}/{}", plan.namespace, plan.group);
        plan.warnings.iter().map(|warning| format!("{group}: {warning}")).collect::<Vec<_>>()
    };
    warnings.extend(formed.plans.iter().flat_map(named));
    let unrecorded = formed.refused.len().saturating_sub(limits::MAX_GROUPS_PER_BACKUP);
    if unrecorded > 0 {
        formed.refused.truncate(limits::MAX_GROUPS_PER_BACKUP);
        let warning =
            format!("and {unrecorded} more groups were refused: divide the namespaces among several Backups");
        warnings.insert(0, warning);
    }
    let warnings = warnings.iter().map(|warning| limits::clip(warning)).collect();
    FormedGroups {
        plans: formed.plans.into_iter().map(Arc::new).collect(),
        refused: formed.refused.iter().map(|r| FailedGroup::of(&r.namespace, &r.group, &r.problem)).collect(),
        warnings: limits::at_most(warnings, limits::MAX_WARNINGS),
    }
}

/// The request of a Backup.
///
/// # Errors
/// The Backup was deleted, or changed after it was taken, and is not valid any more.
fn request(context: &Context, backup: &BackupRef) -> Result<Request, Problem> {
    let about = || About::new("Backup", &backup.namespace, &backup.name);
    let object = context.cache.backup(&backup.namespace, &backup.name);
    let object = object.filter(|object| object.metadata.uid.as_deref() == Some(&backup.uid.0));
    let Some(object) = object.filter(|_| !context.cache.backup_is_deleted(backup)) else {
        let reason = "the Backup was deleted before its groups were fixed; nothing was done";
        return Err(Problem::new(
            Code::PlanOutdated,
            about(),
            reason,
            "create it again if it is still wanted",
        ));
    };
    backup_spec::read(&object, &context.defaults).map_err(|errors| {
        let fix = "correct its spec and create it again";
        Problem::new(Code::InvalidBackup, about(), errors.join("; "), fix)
    })
}

/// Discards all plans.
fn refuse_all(formed: &mut Formed, problem: &Problem) {
    let refused = formed.plans.drain(..).map(|plan| RefusedGroup {
        namespace: plan.namespace,
        group: plan.group,
        problem: problem.clone(),
    });
    formed.refused.extend(refused);
}

/// Forms the groups of a request: those that can run, and those that cannot, with the reason. The caches may
/// be slightly stale: if a group would be refused, or no group would run, the objects are read again from the
/// API server.
async fn form_runs(context: &Context, request: &Request) -> Formed {
    let now = context.clock.now();
    let mut formed = form_groups(request, &inventory::gather(&context.cache, request), now);
    if !formed.refused.is_empty() || formed.plans.is_empty() {
        let read = || inventory::read(&context.adapter, &context.cache, request);
        match preflight::answered(context, "PVCs, namespaces, volumes and classes", read).await {
            Ok(inventory) => formed = form_groups(request, &inventory, now),
            Err(problem) => tracing::warn!(%problem, "planning from the caches"),
        }
    }
    let fits = |plan: &mut Plan| match context.adapter.group_version() {
        Err(problem) => Err(problem),
        Ok(_) => fit_into_record(plan, context.clock.now()),
    };
    if let Err(problem) = context.adapter.group_version() {
        // Without the API there are no classes either; that error would be the less useful one.
        let classless = |refused: &&mut RefusedGroup| refused.problem.code == Code::GroupClass;
        formed.refused.iter_mut().filter(classless).for_each(|refused| refused.problem = problem.clone());
    }
    let plans = std::mem::take(&mut formed.plans);
    for mut plan in plans {
        match fits(&mut plan) {
            Ok(()) => formed.plans.push(plan),
            Err(problem) => {
                formed.refused.push(RefusedGroup { namespace: plan.namespace, group: plan.group, problem });
            }
        }
    }
    formed
}

/// Leaves out the labels of the PVCs if the plan does not fit into a record with them, and says so.
///
/// # Errors
/// [`Code::TooManyMembers`] when the plan does not fit into a record: very many members with very long names.
fn fit_into_record(plan: &mut Plan, at: Timestamp) -> Result<(), Problem> {
    if fits_into_record(plan, at).is_ok() {
        return Ok(());
    }
    let specs = plan.members.iter_mut().filter_map(|member| member.spec.as_mut());
    specs.for_each(|spec| spec.labels.clear());
    plan.warnings.push(
        "the labels of the PVCs do not fit into the record of the plan: a restore cannot set them".to_owned(),
    );
    fits_into_record(plan, at)
}

fn fits_into_record(plan: &Plan, at: Timestamp) -> Result<(), Problem> {
    let about = || About::new("Group", &plan.namespace, &plan.group);
    let fix = "split the group, or give its claims, volumes and handles shorter names";
    // The record of the Backup is larger than that of the run.
    let (part, index) = (u16::MAX, u16::MAX);
    let event = backup::Event::Part(BackupPart { part, index, plan: Arc::new(plan.clone()) });
    let encoded = records::encode_backup(&backup::Timed { at, event }).map(|_| ());
    encoded.map_err(|error| Problem::new(Code::TooManyMembers, about(), error.to_string(), fix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::ClaimSpec;
    use crate::records::tests::samples::plan;

    #[test]
    fn labels_that_do_not_fit_are_left_out_with_a_warning() {
        let labelled = |length: usize| {
            let mut plan = plan(128, 150);
            let spec =
                ClaimSpec { labels: [("app".to_owned(), "x".repeat(length))].into(), ..ClaimSpec::default() };
            plan.members.iter_mut().for_each(|member| member.spec = Some(spec.clone()));
            plan
        };
        let small = labelled(1);
        let mut fitted = small.clone();
        assert!(fit_into_record(&mut fitted, Timestamp(0)).is_ok());
        assert_eq!(fitted, small);
        let mut large = labelled(250);
        assert!(fits_into_record(&large, Timestamp(0)).is_err());
        assert!(fit_into_record(&mut large, Timestamp(0)).is_ok());
        assert!(large.members.iter().all(|member| member.spec.as_ref().is_some_and(|s| s.labels.is_empty())));
        assert!(large.warnings.last().is_some_and(|warning| warning.contains("labels of the PVCs")));
    }
}
