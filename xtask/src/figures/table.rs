//! Figures in tables of Markdown.

/// The cell of a row and a column, named by what stands in the first column and in the header, of
/// the first table after a line that begins with `heading`.
///
/// # Errors
///
/// Which of them there is not.
pub(super) fn cell<'a>(
    markdown: &'a str,
    heading: &str,
    row: &str,
    column: &str,
) -> Result<&'a str, String> {
    let mut lines = markdown.lines();
    lines
        .find(|line| line.starts_with(heading))
        .ok_or_else(|| format!("no line begins with {heading:?}"))?;
    let table = lines
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    let mut rows = table.map(|line| line.trim_matches('|').split('|').map(str::trim));
    let header = rows.next();
    let at = header.and_then(|mut cells| cells.position(|cell| cell == column));
    let at = at.ok_or_else(|| format!("no column {column:?} after {heading:?}"))?;
    rows.find_map(|mut cells| {
        let mut rest = cells.clone();
        (cells.next() == Some(row)).then(|| rest.nth(at))?
    })
    .ok_or_else(|| format!("no row {row:?} after {heading:?}"))
}

/// The `nth` number in a cell, from 0; a comma between digits parts thousands.
pub(super) fn number(cell: &str, nth: usize) -> Option<f64> {
    let is_part = |it: char| it.is_ascii_digit() || it == '.' || it == ',';
    let words = cell.split(|it| !is_part(it));
    let words = words.map(|word| word.trim_end_matches([',', '.']));
    let mut numbers = words.filter(|word| !word.is_empty());
    numbers.nth(nth)?.replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: &str = "
Text.

Figures of
today:

| nodes | 2 | 1,000 |
|---|---|---|
| rpcnet | 4.3 / 5.0 s | **4.1** / 1,204 s |
| other | 6 | - |

Figures elsewhere:

| x | 2 |
|---|---|
| rpcnet | 9 |
";

    #[test]
    fn a_cell_is_found_by_its_row_and_its_column() {
        let cell = |row, column| cell(TABLES, "Figures of", row, column);
        assert_eq!(cell("rpcnet", "2"), Ok("4.3 / 5.0 s"));
        assert_eq!(cell("other", "1,000"), Ok("-"));
        assert!(cell("no row", "2").unwrap_err().contains("no row"));
        assert!(cell("rpcnet", "3").unwrap_err().contains('3'));
        let elsewhere = super::cell(TABLES, "Nothing", "rpcnet", "2");
        assert!(elsewhere.unwrap_err().contains("Nothing"));
    }

    #[test]
    fn the_numbers_of_a_cell_are_distinguished() {
        let of = "**4.1** / 1,204 s";
        assert_eq!(number(of, 0), Some(4.1));
        assert_eq!(number(of, 1), Some(1_204.0));
        assert_eq!(number(of, 2), None);
        assert_eq!(number("-", 0), None);
        assert_eq!(number("242, 372", 1), Some(372.0));
    }
}
