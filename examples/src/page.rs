//! The page around the figures: one HTML file for a phone or a wide screen, light or dark, without network and
//! without scripts.

use crate::chart::escape;
use std::fmt::Write;

const STYLE: &str = include_str!("page.css");

/// A whole page; `title` is escaped, `body` is not.
#[must_use]
pub fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
}

/// A share in percent.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{}\u{a0}%", rate(share))
}

/// A share in percent without the sign, for what stands beside one that has it.
#[must_use]
pub fn rate(share: f64) -> String {
    if share.is_finite() { format!("{:.2}", 100.0 * share) } else { "not a number".into() }
}

/// A difference of two shares in percentage points, with its sign.
#[must_use]
pub fn points(difference: f64) -> String {
    if !difference.is_finite() {
        return "not a number".into();
    }
    let value = 100.0 * difference;
    // Minus zero would read as a loss.
    let value = if value.abs() < 0.005 { 0.0 } else { value };
    format!("{value:+.2}").replace('-', "\u{2212}")
}

/// A part of the page; neither is escaped.
#[must_use]
pub fn section(title: &str, body: &str) -> String {
    format!("<section>\n<h2>{title}</h2>\n{body}</section>\n")
}

/// A number that stands out; all but `class` is escaped.
#[must_use]
pub fn tile(class: &str, name: &str, value: &str, note: &str) -> String {
    let (name, value, note) = (escape(name), escape(value), escape(note));
    format!(
        "<div class=\"tile{class}\"><span>{name}</span><b>{value}</b><small>{note}</small></div>\n"
    )
}

/// A table that scrolls by itself where the screen is narrow.
#[must_use]
pub fn table(label: &str, heads: &[&str], rows: &str) -> String {
    let heads: String = heads.iter().map(|head| format!("<th scope=\"col\">{head}</th>")).collect();
    format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{label}\" tabindex=\"0\"><table>\n<thead><tr>{heads}</tr></thead>\n\
         <tbody>\n{rows}</tbody></table></div>\n"
    )
}

/// Title, caption, legend and drawing.
#[must_use]
pub fn figure(title: &str, caption: &str, legend: &str, drawing: &str) -> String {
    let (title, caption) = (escape(title), escape(caption));
    format!(
        "<figure><h3>{title}</h3><figcaption>{caption}</figcaption>{legend}{drawing}</figure>\n"
    )
}

/// A list of (class, name) with a sample of each line.
#[must_use]
pub fn legend<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut list = String::from("<ul class=\"legend\">");
    for (class, name) in entries {
        let (name, dash) = (escape(name), if class == "train" { " dash" } else { "" });
        let _ = write!(
            list,
            "<li><svg viewBox=\"0 0 26 12\" aria-hidden=\"true\"><path class=\"line {class}{dash}\" \
             d=\"M1 6H25\"/></svg>{name}</li>"
        );
    }
    list + "</ul>"
}
