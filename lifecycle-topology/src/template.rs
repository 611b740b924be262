//! Go templates in lab files: every file is one, whatever its name, and most contain no action.

use std::fmt::{self, Write};
use std::path::Path;

use gotmpl::{Template, TemplateError, Value};

use crate::diagnostics::{Problems, Report};
use crate::source::Source;
use crate::{MAX_TEXT, template_functions};

/// Directory beside a lab file whose templates it may use by name.
const HELPERS: &str = "clab_templates";

/// How often ranges of one template may go round.
const MAX_ITERATIONS: u64 = 5_000_000;

/// Fills in the template that `source` is, with helpers from beside it. Nothing when that failed, which the problems then
/// say; the source itself when it has no actions.
pub(crate) fn fill_in(source: Source, directory: &Path, vars: &Value) -> Result<Source, Report> {
    if !source.shown().contains("{{") {
        return Ok(source);
    }
    let mut output = Bounded(String::new());
    let result = parse(&source, directory).and_then(|template| template.execute_fmt(&mut output, vars));
    match result {
        Ok(()) => {
            let mut filled = Source::new(source.file, output.0);
            filled.note = Some("this is a line of the text that the template made, not of the file");
            Ok(filled)
        }
        Err(error) => Err(explain(source, &error, &output.0)),
    }
}

fn parse(source: &Source, directory: &Path) -> gotmpl::Result<Template> {
    let name = Path::new(&source.file).file_name().map_or(source.file.as_str().into(), |name| name.to_string_lossy());
    let template = template_functions::add_to(Template::new(&name)).max_range_iters(MAX_ITERATIONS);
    let mut helpers: Vec<String> = std::fs::read_dir(directory.join(HELPERS))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.path().to_str().map(str::to_owned))
        .filter(|path| path.ends_with(".gotmpl"))
        .collect();
    helpers.sort();
    let helpers: Vec<&str> = helpers.iter().map(String::as_str).collect();
    let template = if helpers.is_empty() { template } else { template.parse_files(&helpers)? };
    template.parse(source.shown())
}

/// Text that may not grow without bound.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MAX_TEXT {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// Finds the place of an error as well as it can be found: only syntax errors know theirs. Of a function that failed the
/// first use is shown, and else how far the template came.
fn explain(source: Source, error: &TemplateError, output: &str) -> Report {
    let file = Path::new(&source.file).file_name().map(|name| name.to_string_lossy().into_owned());
    let text = source.shown().to_owned();
    let (at, message, advice) = match error {
        TemplateError::Parse { name, line, col, message } | TemplateError::Lex { name, line, col, message } => {
            let at = source.offset(*line, *col);
            match name {
                Some(name) if Some(name) != file.as_ref() => {
                    (0..1, format!("{HELPERS}/{name}:{line}:{col}: {message}"), String::new())
                }
                _ => (at..at + 1, message.clone(), String::new()),
            }
        }
        TemplateError::Write => {
            (0..1, "the template makes too much text".to_owned(), format!("at most {MAX_TEXT} bytes"))
        }
        other => {
            let message = other.to_string().trim_start_matches("execution error: ").to_owned();
            let reached = output.lines().count();
            let advice = format!("it failed after {reached} lines of its output");
            match culprit(other).and_then(|word| first_use(&text, word)) {
                Some(at) => (at, message, advice),
                None => (text.find("{{").map_or(0..1, |at| at..at + 2), message, advice),
            }
        }
    };
    let mut problems = Problems::new(source);
    problems.error_shown(at, format!("in the template: {message}"), advice);
    problems.into_report()
}

/// The word of the template that an error is about.
fn culprit(error: &TemplateError) -> Option<&str> {
    match error {
        TemplateError::UndefinedFunction(name)
        | TemplateError::UndefinedVariable(name)
        | TemplateError::UndefinedTemplate(name)
        | TemplateError::ArgCount { name, .. } => Some(name),
        TemplateError::Exec(message) => message.split_once(':').map(|(name, _)| name),
        _ => None,
    }
}

/// The first place in an action where `word` stands for itself.
fn first_use(text: &str, word: &str) -> Option<std::ops::Range<usize>> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    text.match_indices(word).map(|(at, _)| at..at + word.len()).find(|at| {
        let alone = !text[..at.start].ends_with(is_part) && !text[at.end..].starts_with(is_part);
        let before = &text[..at.start];
        alone && before.rfind("{{") > before.rfind("}}")
    })
}

#[cfg(test)]
mod tests {
    use gotmpl::tmap;

    use super::*;

    fn fill(text: &str, vars: &Value) -> Result<String, String> {
        fill_in(Source::new("lab.clab.yml", text), Path::new("/nonexistent"), vars)
            .map(|source| source.shown().to_owned())
            .map_err(|report| report.to_string())
    }

    #[test]
    fn plain_text_is_left_alone() {
        assert_eq!(fill("a: {b: c}\n", &tmap! {}).unwrap(), "a: {b: c}\n");
    }

    #[test]
    fn missing_variables_are_false_or_no_value() {
        let text = "a:{{ if .more }} x{{ end }} {{ .more }}\n{{- range seq 1 $.n }}\n- {{ . }}{{ end }}";
        assert_eq!(fill(text, &tmap! { "n" => 2i64 }).unwrap(), "a: <no value>\n- 1\n- 2");
    }

    #[test]
    fn errors_have_a_place() {
        let error = fill("a: 1\nb: {{ if }}\n", &tmap! {}).unwrap_err();
        assert!(error.contains("lab.clab.yml:2:") && error.contains("in the template: "), "{error}");
        let error = fill("a: 1\nb: {{ range seq 1 $.spines.num }}{{ end }}\n", &tmap! {}).unwrap_err();
        assert!(error.contains("lab.clab.yml:2:13") && error.contains("seq: expected a number"), "{error}");
        let error = fill("a: 1\nb: {{ nosuch 1 }}\n", &tmap! {}).unwrap_err();
        assert!(error.contains("lab.clab.yml:2:7") && error.contains("undefined function: nosuch"), "{error}");
        let error = fill("a: {{ template \"t\" }}\n", &tmap! {}).unwrap_err();
        assert!(error.contains("undefined template"), "{error}");
    }

    #[test]
    fn hostile_templates_end() {
        for text in [
            "{{ range seq 1000000 }}{{ range seq 1000000 }}{{ end }}{{ end }}",
            "{{ define \"t\" }}{{ template \"t\" }}{{ end }}{{ template \"t\" }}",
            "{{ range seq 1000000 }}0123456789{{ end }}",
            &"{{ if true }}".repeat(10_000),
        ] {
            assert!(fill(text, &tmap! {}).is_err(), "{text:.60}");
        }
    }

    #[test]
    fn helpers_from_beside_the_file() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(HELPERS)).unwrap();
        std::fs::write(directory.path().join(HELPERS).join("a.gotmpl"), "{{ define \"hello\" }}hello {{ . }}{{ end }}")
            .unwrap();
        let source = Source::new("lab.clab.yml", "a: {{ template \"hello\" \"you\" }}");
        assert_eq!(fill_in(source, directory.path(), &tmap! {}).unwrap().shown(), "a: hello you");
        std::fs::write(directory.path().join(HELPERS).join("b.gotmpl"), "{{ if }}").unwrap();
        let source = Source::new("lab.clab.yml", "a: {{ template \"hello\" \"you\" }}");
        let error = fill_in(source, directory.path(), &tmap! {}).unwrap_err().to_string();
        assert!(error.contains("clab_templates/b.gotmpl:1:"), "{error}");
    }
}
