//! Mistakes as a person reads them: the line, the offending part underlined, what to do.

use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use mcr_model::FieldError;

use super::ConfigError;
use super::finding::{Earlier, Finding};

/// More mistakes than this are only counted: they are mostly consequences of the first ones.
const MOST_SHOWN: usize = 20;
/// The longest piece of a line that is shown before and after a mistake, in bytes.
const CONTEXT_BYTES: usize = 200;

/// All findings about `text` of the file `name`.
pub(super) fn report(name: &str, text: &str, mut findings: Vec<Finding>) -> ConfigError {
    findings.sort_by_key(|finding| finding.span.start);
    let lines = Lines::of(text);
    let shown = &findings[..findings.len().min(MOST_SHOWN)];
    let renderer = Renderer::plain().decor_style(DecorStyle::Ascii);
    let mut pieces: Vec<String> =
        shown.iter().map(|finding| renderer.render(&[group(name, text, &lines, finding)])).collect();
    let mut plain: Vec<String> = shown.iter().map(|finding| line(name, text, &lines, finding)).collect();
    if findings.len() > MOST_SHOWN {
        let more = format!("and {} more mistakes in {name}", findings.len() - MOST_SHOWN);
        pieces.push(more.clone());
        plain.push(more);
    }
    let fields = shown.iter().map(|Finding { field, message, remedy, .. }| FieldError::new(field, message, remedy));
    ConfigError { rendered: pieces.join("\n\n"), plain, fields: fields.collect() }
}

fn group<'a>(name: &'a str, text: &'a str, lines: &Lines, finding: &'a Finding) -> Group<'a> {
    let Finding { span, field: _, message, label, remedy, earlier } = finding;
    let mut group = Level::ERROR.primary_title(message.as_str()).element(snippet(
        name,
        text,
        lines,
        span,
        AnnotationKind::Primary,
        label,
    ));
    if let Some(Earlier { span, label }) = earlier {
        group = group.element(snippet(name, text, lines, span, AnnotationKind::Context, label));
    }
    if remedy.is_empty() { group } else { group.element(Level::HELP.message(remedy.as_str())) }
}

/// Only the line of the mistake is handed over: the renderer walks all of what it gets, and a file may be large or
/// one long line.
fn snippet<'a>(
    name: &'a str,
    text: &'a str,
    lines: &Lines,
    span: &Range<usize>,
    kind: AnnotationKind,
    label: &'a str,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let line = lines.around(text, span.start);
    let window = boundary_before(text, line.start.max(span.start.saturating_sub(CONTEXT_BYTES)))
        ..boundary_before(text, line.end.min(span.start + 2 * CONTEXT_BYTES));
    let start = span.start.clamp(window.start, window.end) - window.start;
    let end = span.end.clamp(window.start, window.end) - window.start;
    let annotation = kind.span(start..end);
    let annotation = if label.is_empty() { annotation } else { annotation.label(label) };
    let snippet = Snippet::source(&text[window]).path(name).line_start(lines.number(span.start));
    snippet.annotation(annotation)
}

/// `file:line:column: what is wrong; what to do`, columns in characters from 1.
fn line(name: &str, text: &str, lines: &Lines, finding: &Finding) -> String {
    let Finding { span, field: _, message, label: _, remedy, earlier } = finding;
    let column = 1 + text[lines.around(text, span.start).start..span.start].chars().count();
    let mut said = format!("{name}:{}:{column}: {message}", lines.number(span.start));
    if let Some(Earlier { span, label: _ }) = earlier {
        said.push_str(&format!(" (first in line {})", lines.number(span.start)));
    }
    if !remedy.is_empty() {
        said.push_str(&format!("; {remedy}"));
    }
    said
}

fn boundary_before(text: &str, offset: usize) -> usize {
    text.floor_char_boundary(offset)
}

/// Where the lines of a text begin.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn of(text: &str) -> Self {
        let after_newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(i, _)| i + 1);
        Self { starts: std::iter::once(0).chain(after_newlines).collect() }
    }

    /// The number of the line that `offset` is in, from 1.
    fn number(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    /// The bytes of that line, without its end.
    fn around(&self, text: &str, offset: usize) -> Range<usize> {
        let number = self.number(offset);
        let start = self.starts[number - 1];
        let end = self.starts.get(number).map_or(text.len(), |next| next - 1);
        let end = if end > start && text.as_bytes()[end - 1] == b'\r' { end - 1 } else { end };
        start..end
    }
}
