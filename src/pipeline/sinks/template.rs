//! A name with places for what an event is: a tag, a subject.
//!
//! `{service}` is the service's name and `{kind}` the event's kind. How it fails: any other pair of braces is an error when
//! it is read.

/// A text with places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    /// Only `{kind}` is left in it.
    text: String,
}

impl Template {
    /// Reads one. What is not a letter, a digit, `-` or `_` in the service's name becomes `_`, so that it is one part of the
    /// name.
    ///
    /// # Errors
    /// The text is empty, longer than 200 bytes, has spaces or control characters, or braces around something else.
    pub(super) fn new(text: &str, service: &str) -> Result<Template, String> {
        if text.is_empty() || text.len() > 200 {
            return Err(format!("`{text}` must have 1 to 200 characters"));
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(format!("`{}` must not have spaces", text.escape_debug()));
        }
        let rest = text.replace("{kind}", "").replace("{service}", "");
        if rest.contains(['{', '}']) {
            return Err(format!("`{text}`: only {{kind}} and {{service}} may stand in braces"));
        }
        let is_legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let service: String = service.chars().map(|c| if is_legal(c) { c } else { '_' }).collect();
        let service = if service.is_empty() { "_".to_owned() } else { service };
        Ok(Template { text: text.replace("{service}", &service) })
    }

    /// The name for an event of this kind.
    pub(super) fn name(&self, kind: &str) -> String {
        self.text.replace("{kind}", kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_from_what_an_event_is() {
        let template = Template::new("sidelight.{service}.{kind}", "check out.eu").unwrap();
        assert_eq!(template.name("exchange"), "sidelight.check_out_eu.exchange");
        assert_eq!(Template::new("all", "").unwrap().name("exchange"), "all");
        assert_eq!(Template::new("{service}", "").unwrap().name("exchange"), "_");
    }

    #[test]
    fn what_cannot_be_a_name_is_refused() {
        for text in ["", "a b", "a\n", "{account}", "{kind", "kind}", "{{kind}}", &"x".repeat(201)] {
            assert!(Template::new(text, "s").is_err(), "{text}");
        }
    }
}
