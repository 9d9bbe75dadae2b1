//! `stillpoint crds`: the CustomResourceDefinitions, generated from the types; ours, and Velero's Backup by name only.

use clap::Args;

use crate::cli::output::{data, exit, report};
use crate::domain::problem::{About, Code, Problem};

/// Prints Stillpoint's CustomResourceDefinition as YAML, for `kubectl apply -f -`.
///
/// Backup is Velero's own: its definition is printed only when it is named, backups.velero.io. Give that one to
/// `kubectl create -f -`, which refuses to overwrite what Velero has installed.
#[derive(Debug, Args)]
pub struct Crds {
    /// The definition of that resource: groupsnapshots.stillpoint.dev or backups.velero.io.
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// The API group of what is ours.
const OWN_GROUP: &str = ".stillpoint.dev";

impl Crds {
    /// Prints.
    pub fn execute(self) -> u8 {
        match self.text() {
            Ok(text) => {
                // A closed stdout is no failure.
                let _ = data(&text);
                exit::DONE
            }
            Err(problem) => report(&problem, false),
        }
    }

    fn text(&self) -> Result<String, Problem> {
        let all = crate::api::crds();
        let wanted = |name: &Option<String>| match (&self.name, name) {
            (None, Some(name)) => name.ends_with(OWN_GROUP),
            (wanted, name) => wanted == name,
        };
        let mut text = String::new();
        for crd in all.iter().filter(|crd| wanted(&crd.metadata.name)) {
            let yaml = serde_saphyr::to_string(crd).map_err(|error| {
                let about =
                    About::new("CustomResourceDefinition", "", crd.metadata.name.as_deref().unwrap_or(""));
                Problem::new(
                    Code::Internal,
                    about,
                    error.to_string(),
                    "this is a defect of Stillpoint: report it",
                )
            })?;
            text.push_str("---\n");
            text.push_str(&yaml);
        }
        if text.is_empty() {
            let names: Vec<String> = all.iter().filter_map(|crd| crd.metadata.name.clone()).collect();
            let about = About::new("CustomResourceDefinition", "", self.name.as_deref().unwrap_or_default());
            let fix = format!("name one of {}", names.join(", "));
            return Err(Problem::new(Code::Usage, about, "Stillpoint has no such definition", fix));
        }
        Ok(text)
    }
}
