//! The status page: facts and tables, as plain text or as HTML.

/// What the page shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub title: String,
    /// Names and values: version, address, epoch, memory.
    pub facts: Vec<(String, String)>,
    pub tables: Vec<Table>,
}

/// One table; each row has as many cells as there are columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub title: String,
    pub columns: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

const HEAD: &str = "<meta charset=\"utf-8\">\
    <meta name=\"viewport\" content=\"width=device-width\">\
    <style>body{font:14px system-ui,sans-serif;margin:2em auto;max-width:72em;padding:0 1em}\
    table{border-collapse:collapse}td,th{padding:.2em .8em .2em 0;text-align:left;\
    border-bottom:1px solid #8884}:root{color-scheme:light dark}</style>";

impl Page {
    pub(super) fn to_html(&self) -> String {
        let title = escaped(&self.title);
        let mut html = format!(
            "<!doctype html><html lang=\"en\"><head>{HEAD}<title>{title}</title></head><body>\
             <h1>{title}</h1>"
        );
        let facts = self
            .facts
            .iter()
            .map(|(name, value)| vec![name.clone(), value.clone()]);
        html.push_str(&table_html(&[], facts));
        for table in &self.tables {
            html.push_str(&format!("<h2>{}</h2>", escaped(&table.title)));
            html.push_str(&table_html(&table.columns, table.rows.iter().cloned()));
        }
        html.push_str("<p><a href=\"/metrics\">metrics</a></p></body></html>\n");
        html
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.title);
        let facts = self
            .facts
            .iter()
            .map(|(name, value)| vec![name.clone(), value.clone()]);
        text.push_str(&table_text(facts.collect()));
        for table in &self.tables {
            text.push_str(&format!("\n{}\n", table.title));
            let head = std::iter::once(table.columns.clone());
            text.push_str(&table_text(
                head.chain(table.rows.iter().cloned()).collect(),
            ));
        }
        text
    }
}

fn table_html(columns: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut html = String::from("<table>");
    if !columns.is_empty() {
        html.push_str("<tr>");
        for column in columns {
            html.push_str(&format!("<th>{}</th>", escaped(column)));
        }
        html.push_str("</tr>");
    }
    for row in rows {
        html.push_str("<tr>");
        for cell in row {
            html.push_str(&format!("<td>{}</td>", escaped(&cell)));
        }
        html.push_str("</tr>");
    }
    html.push_str("</table>");
    html
}

/// Lines with cells under each other.
fn table_text(rows: Vec<Vec<String>>) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths = vec![0; columns];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        Page {
            title: "Tidemill".into(),
            facts: vec![
                ("version".into(), "1".into()),
                ("epoch".into(), "12".into()),
            ],
            tables: vec![Table {
                title: "Views".into(),
                columns: vec!["name".into(), "rows".into()],
                rows: vec![vec!["<script>&".into(), "3".into()]],
            }],
        }
    }

    #[test]
    fn text_is_aligned() {
        assert_eq!(
            page().to_text(),
            "Tidemill\nversion  1\nepoch    12\n\nViews\nname       rows\n<script>&  3\n"
        );
    }

    #[test]
    fn html_shows_names_and_does_not_run_them() {
        let html = page().to_html();
        assert!(html.contains("<td>&lt;script&gt;&amp;</td>"));
        assert!(!html.contains("<script>"));
    }
}
