//! Simulates csi-snapshotter and driver for an unbound content made from the handles of a cut.

use stillpoint::domain::ids::{ObjectId, Uid};
use stillpoint::machine::group::effect::Unbound;

use super::cluster::{Cluster, Refused, refused, test};

impl Cluster {
    pub(super) fn import(&mut self, content: &Unbound) -> Result<Uid, Refused> {
        test(self.seen.import.is_none(), "absence").map_err(|_| refused(409, "already exists"))?;
        self.imported = content.snapshot_handles.clone();
        let import = self.new_group_content(&content.name);
        Ok(self.seen.import.insert(import).id.uid.clone())
    }

    pub(super) fn is_import(&self, id: &ObjectId) -> bool {
        self.seen.import.as_ref().is_some_and(|import| import.id == *id)
    }

    pub(super) fn delete_import(&mut self, version: Option<&str>) -> Result<Uid, Refused> {
        let import = self.seen.import.as_mut().ok_or_else(|| refused(404, "not found"))?;
        test(version.is_none_or(|version| version == import.resource_version), "the version")?;
        import.terminating = true;
        Ok(import.id.uid.clone())
    }

    /// The driver has the group as long as it has any snapshot that the import names.
    pub(super) fn answer_import(&mut self) {
        let known = self.imported.iter().any(|handle| self.storage.contains(handle));
        let version = self.version();
        let Some(import) = self.seen.import.as_mut().filter(|import| !import.terminating) else { return };
        if import.group_handle.is_some() || import.error.is_some() {
            return;
        }
        import.resource_version = version;
        if known {
            import.group_handle = Some("imported".into());
        } else {
            import.error = Some("rpc error: code = NotFound desc = group snapshot is not found".into());
        }
    }

    /// The finalizer blocks the deletion until the driver has freed the storage.
    pub(super) fn let_import_go(&mut self) {
        let Some(import) = self.seen.import.take_if(|import| import.terminating) else { return };
        for handle in self.imported.iter().filter(|_| import.group_handle.is_some()) {
            self.storage.remove(handle);
        }
    }
}
