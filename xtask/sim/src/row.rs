//! Rows of the results, and their tables.

use serde::{Serialize, Serializer};
use serde_json::Value;
use xtask_report::{format_table, number};

/// A row of the results: its fields, in the order of the JSON.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row(pub(crate) Vec<(&'static str, Value)>);

impl Row {
    pub(crate) fn with(mut self, field: &'static str, value: impl Into<Value>) -> Self {
        self.0.push((field, value.into()));
        self
    }

    pub(crate) fn get(&self, field: &str) -> Option<&Value> {
        let found = self.0.iter().find(|(name, _)| *name == field);
        found.map(|(_, value)| value)
    }

    /// Number of a field; `None` if it has none, as when it never came to what it says.
    pub(crate) fn number(&self, field: &str) -> Option<f64> {
        self.get(field)?.as_f64()
    }

    /// Text of a field; empty if it has none.
    pub(crate) fn text(&self, field: &str) -> &str {
        self.get(field).and_then(Value::as_str).unwrap_or_default()
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(field, value)| (field, value)))
    }
}

/// Column of a table: a heading, the field that it shows, and how it shows a number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) heading: &'static str,
    pub(crate) field: &'static str,
    /// Field that it shows of a row without the other.
    other_field: Option<&'static str>,
    text: fn(f64) -> String,
}

impl Column {
    pub(crate) const fn new(heading: &'static str, field: &'static str) -> Self {
        Self::with_text(heading, field, number)
    }

    /// Column of numbers that are shown as they are.
    pub(crate) const fn plain(heading: &'static str, field: &'static str) -> Self {
        Self::with_text(heading, field, |it| it.to_string())
    }

    pub(crate) const fn with_text(
        heading: &'static str,
        field: &'static str,
        text: fn(f64) -> String,
    ) -> Self {
        Self {
            heading,
            field,
            other_field: None,
            text,
        }
    }

    /// The same, with a field to show of a row that has not got the first.
    pub(crate) const fn or(mut self, field: &'static str) -> Self {
        self.other_field = Some(field);
        self
    }

    /// Text of a row; `none` where the field has no value, nothing where there is no field.
    fn show(&self, row: &Row, none: &str) -> String {
        let fields = [Some(self.field), self.other_field];
        let value = fields.into_iter().flatten().find_map(|it| row.get(it));
        match value {
            None => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.as_f64().map_or_else(|| none.to_owned(), self.text),
        }
    }
}

/// Table of these columns, with `none` in place of missing values.
pub(crate) fn table(columns: &[Column], rows: &[Row], none: &str) -> String {
    let headings = columns.iter().map(|it| it.heading.to_owned()).collect();
    let mut lines: Vec<Vec<String>> = vec![headings];
    let line = |row| columns.iter().map(|it| it.show(row, none)).collect();
    lines.extend(rows.iter().map(line));
    format_table(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_texts_numbers_and_what_there_is_none_of() {
        let row = |name: &str, figure: Option<f64>| {
            Row::default().with("name", name).with("figure", figure)
        };
        let columns = [
            Column::new("who", "name"),
            Column::new("figure", "figure"),
            Column::plain("as it is", "figure"),
            Column::new("other", "other"),
        ];
        let rows = [row("a", Some(1_234.0)), row("b", None)];
        assert_eq!(
            table(&columns, &rows, "never"),
            "who  figure  as it is  other\na     1,234      1234\nb     never     never\n"
        );
    }

    #[test]
    fn fields_are_written_in_their_order() {
        let row = Row::default()
            .with("z", 1)
            .with("a", 2.0)
            .with("m", None::<f64>);
        let text = serde_json::to_string(&row).unwrap();
        assert_eq!(text, r#"{"z":1,"a":2.0,"m":null}"#);
    }
}
