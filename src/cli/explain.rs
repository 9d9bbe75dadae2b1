//! `stillpoint explain CODE`: the meaning of an error code and how to fix it.

use serde::Serialize;

use super::common::{OutputArgs, print, show};
use super::output::{self, Format, exit};
use crate::domain::problem::{About, Code, Problem};

/// Explain an error code and how to fix the error
#[derive(Debug, clap::Args)]
pub struct Explain {
    /// Error code, for example SP0013. Without a code, all codes are printed
    code: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Serialize)]
struct Explained {
    code: String,
    title: &'static str,
    explanation: &'static str,
}

impl Explain {
    pub fn execute(self) -> u8 {
        let format = self.output.output;
        self.run(format).unwrap_or_else(|problem| output::report(&problem, format.is_document()))
    }

    fn run(self, format: Format) -> Result<u8, Problem> {
        match &self.code {
            Some(text) => {
                let code = output::parse_code(text).ok_or_else(|| unknown(text))?;
                show(format, &explained(code), text_of)?;
            }
            None if format.is_document() => {
                let all: Vec<Explained> = output::CODES.iter().map(|code| explained(*code)).collect();
                show(format, &all, |_| String::new())?;
            }
            None => print(&output::page())?,
        }
        Ok(exit::DONE)
    }
}

fn explained(code: Code) -> Explained {
    Explained { code: code.to_string(), title: output::title(code), explanation: output::explain(code) }
}

fn text_of(explained: &Explained) -> String {
    format!("{}: {}\n\n{}\n", explained.code, explained.title, explained.explanation)
}

fn unknown(text: &str) -> Problem {
    Problem::new(
        Code::Usage,
        About::default(),
        format!("{text:?} is not an error code of this version of stillpoint"),
        "give a code such as SP0013; `stillpoint explain` without one lists them all",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explains_code_by_title_and_paragraph() {
        let text = text_of(&explained(Code::DriverFailed));
        assert!(text.starts_with("SP0013: ") && text.lines().count() > 2, "{text}");
        assert_eq!(unknown("SP9999").code, Code::Usage);
    }
}
