//! `stillpoint crds`: CustomResourceDefinitions, generated from the types. Prints Stillpoint's own CRD, and
//! the CRD of Velero's Backup only when it is named.

use clap::Args;

use crate::cli::output::{data, exit, report};
use crate::domain::problem::{About, Code, Problem};

/// Print the Stillpoint CustomResourceDefinition as YAML, for use with `kubectl apply -f -`
///
/// Backup belongs to Velero. Its CRD is printed only if it is named: backups.velero.io. Pipe that CRD to
/// `kubectl create -f -`, which does not overwrite the CRD that Velero has installed.
#[derive(Debug, Args)]
pub struct Crds {
    /// CRD to print: groupsnapshots.stillpoint.dev or backups.velero.io
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// The suffix of Stillpoint's own API groups.
const OWN_GROUP: &str = ".stillpoint.dev";

impl Crds {
    pub fn execute(self) -> u8 {
        match self.text() {
            Ok(text) => {
                // A closed stdout is not an error.
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
