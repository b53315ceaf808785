//! Long text in several lines.

/// `text` in lines of at most so many columns, the first after `head`, the others below its text. A word that is longer
/// stays whole.
pub(crate) fn wrapped(head: &str, columns: usize, text: &str) -> Vec<String> {
    let indent = " ".repeat(head.chars().count());
    let (mut lines, mut line) = (Vec::new(), head.to_owned());
    for word in text.split(' ') {
        let is_fresh = line.len() == head.len();
        if !is_fresh && line.chars().count() + 1 + word.chars().count() > columns {
            lines.push(std::mem::replace(&mut line, format!("{indent}{word}")));
        } else {
            line.push_str(if is_fresh { "" } else { " " });
            line.push_str(word);
        }
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_goes_on_below_itself() {
        let lines = wrapped("to do:   ", 100, &"word ".repeat(40));
        assert!(lines.len() == 3 && lines.iter().all(|line| line.chars().count() <= 100), "{lines:#?}");
        assert!(lines[0].starts_with("to do:   word") && lines[1].starts_with("         word"), "{lines:#?}");
        assert_eq!(wrapped("    ", 100, "a b"), ["    a b"]);
    }
}
