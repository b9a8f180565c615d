//! The catalog: every optimizer and every schedule of the registries on one page.

use crate::page::{escape, head};
use crate::plot::Frame;
use crate::schedules::{Curve, STEPS};
use firebrick::optim::registry::{CARDS, RuleCard};
use serde_json::Value;
use std::fmt::Write;

/// The updates whose rates the tables show.
const SHOWN: [u64; 9] = [0, 1, 2, 5, 10, 20, 50, 100, STEPS];

/// The whole page.
pub(crate) fn render(curves: &[Curve]) -> String {
    let mut page = head("Catalog of optimizers and schedules", "Optimizers and schedules");
    page.push_str(
        "<p>Everything that the registries make by name, with the default configurations. In the formulas p is the parameter, \
         g its gradient, lr the rate, wd the weight decay, m and v the first and second moment, t the number of the update.</p>\n",
    );
    index(&mut page, "optimizers", "Optimizers", CARDS.iter().map(|card| (card.name, card.title)));
    index(
        &mut page,
        "schedules",
        "Schedules",
        curves.iter().map(|curve| (curve.card.name, curve.card.name)),
    );
    page.push_str("<section id=\"optimizers\"><h2>Optimizers</h2>\n");
    for card in CARDS {
        optimizer(&mut page, card);
    }
    let _ = write!(
        page,
        "</section>\n<section id=\"schedules\"><h2>Learning-rate schedules</h2>\n\
         <p>The rate of update k, over {STEPS} updates.</p>\n<div class=\"grid\">\n"
    );
    for curve in curves {
        schedule(&mut page, curve);
    }
    page.push_str("</div></section></body></html>\n");
    page
}

fn index<'a>(
    page: &mut String,
    id: &str,
    title: &str,
    entries: impl Iterator<Item = (&'a str, &'a str)>,
) {
    // Writing to a string cannot fail.
    let _ = write!(page, "<p><b>{title}</b></p><nav>");
    for (name, title) in entries {
        let _ = write!(page, "<a href=\"#{id}-{name}\">{title}</a>");
    }
    page.push_str("</nav>\n");
}

fn optimizer(page: &mut String, card: &RuleCard) {
    let RuleCard { name, title, formula, reference, lr, state_bytes, when, .. } = card;
    let _ = write!(
        page,
        "<article id=\"optimizers-{name}\"><h3>{title}<code>{name}</code></h3>\n<p>{when}</p>\n<p class=\"formula\">{}</p>\n\
         <p class=\"facts\"><b>Usual rate</b> {lr}; <b>state</b> {state_bytes} bytes a parameter; <b>reference</b> {}</p>\n",
        escape(formula),
        arxiv(reference),
    );
    defaults(page, &card.defaults());
    page.push_str("</article>\n");
}

/// The configuration as a table that opens.
fn defaults(page: &mut String, config: &Value) {
    page.push_str("<details><summary>Defaults</summary><div class=\"scroll\"><table>");
    for (field, value) in config.as_object().into_iter().flatten() {
        let value =
            if value.is_null() { "none".into() } else { value.to_string().replace('"', "") };
        let _ = write!(
            page,
            "<tr><td><code>{field}</code></td><td class=\"n\">{}</td></tr>",
            escape(&value.replace(',', ", "))
        );
    }
    page.push_str("</table></div></details>\n");
}

/// Bare numbers of arXiv, as the cards have them, get its name.
fn arxiv(reference: &str) -> String {
    let bare = |word: &str| {
        let digits = word.chars().all(|c| c.is_ascii_digit() || c == '.');
        digits && word.len() >= 9 && word.find('.') == Some(4)
    };
    let word = |word: &str| {
        let core = word.trim_end_matches([';', ',']);
        if bare(core) { format!("arXiv {word}") } else { word.to_owned() }
    };
    let words: Vec<String> = reference.split(' ').map(word).collect();
    escape(&words.join(" ").replace("arXiv arXiv", "arXiv"))
}

fn schedule(page: &mut String, curve: &Curve) {
    let Curve { card, config, rates } = curve;
    let (width, height, left, below) = (300.0, 150.0, 46.0, 20.0);
    let top = rates.iter().fold(0.0f64, |top, &rate| top.max(rate));
    let frame = Frame {
        window: [0.0, STEPS as f64, 0.0, 1.05 * top],
        width: width - left - 6.0,
        height: height - below - 6.0,
    };
    let points: Vec<[f64; 2]> =
        rates.iter().enumerate().map(|(k, &rate)| [k as f64, rate]).collect();
    let (bottom, [right, peak]) = (frame.height, frame.place([STEPS as f64, top]));
    let _ = writeln!(
        page,
        "<figure id=\"schedules-{name}\"><svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{name}: rate against update\">\
         <g transform=\"translate({left} 6)\"><path class=\"axis\" d=\"M0 0V{bottom}H{right}\"/><path class=\"axis\" d=\"M-4 {peak:.1}H0\"/>\
         <text x=\"-7\" y=\"{:.1}\" text-anchor=\"end\">{}</text><text x=\"-7\" y=\"{bottom}\" text-anchor=\"end\">0</text>\
         <text x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">k = {STEPS}</text>\
         <path class=\"walk\" style=\"stroke:var(--c0)\" d=\"{}\"/></g></svg>\
         <figcaption><b>{name}</b><span class=\"formula\">{}</span><br>Good for {}.<br><span>{}</span></figcaption>",
        peak + 5.0,
        short(top),
        bottom + 16.0,
        frame.line(&points),
        escape(card.formula),
        card.when,
        if card.reference == "-" { String::new() } else { arxiv(card.reference) },
        name = card.name,
    );
    page.push_str("<details open><summary>Rates</summary><div class=\"scroll\"><table><tr><th>k</th><th>rate</th></tr>");
    for k in SHOWN {
        let rate = rates.get(k as usize).copied().unwrap_or(0.0);
        let _ =
            write!(page, "<tr><td class=\"n\">{k}</td><td class=\"n\">{}</td></tr>", short(rate));
    }
    page.push_str("</table></div></details>");
    defaults(page, config);
    page.push_str("</figure>\n");
}

/// Five digits that count, as people write them.
fn short(x: f64) -> String {
    if x == 0.0 {
        return "0".into();
    }
    if x.abs() < 1e-4 {
        return format!("{x:.3e}");
    }
    let places = (4 - x.abs().log10().floor() as i32).clamp(0, 8) as usize;
    let text = format!("{x:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::is_whole;
    use crate::schedules::curves;
    use firebrick::optim::schedule::SCHEDULES;

    #[test]
    fn the_catalog_has_every_optimizer_and_schedule_with_all_that_is_known_of_it() {
        let curves = curves().expect("valid");
        let page = render(&curves);
        is_whole(&page);
        assert_eq!(page.matches("<article ").count(), CARDS.len());
        for card in CARDS {
            let at = page.find(&format!("<article id=\"optimizers-{}\"", card.name));
            let article = &page[at.unwrap_or_else(|| panic!("{} is missing", card.name))..];
            let article = &article[..article.find("</article>").expect("closed")];
            assert!(page.contains(&format!("href=\"#optimizers-{}\"", card.name)));
            for part in [card.title, card.when, card.state_bytes, &escape(card.formula)] {
                assert!(!part.is_empty() && article.contains(part), "{}: {part}", card.name);
            }
            let defaults = card.defaults();
            for field in defaults.as_object().expect("an object").keys() {
                assert!(
                    article.contains(&format!("<code>{field}</code>")),
                    "{}: {field}",
                    card.name
                );
            }
        }
        assert_eq!(page.matches("<figure ").count(), SCHEDULES.len());
        for (card, curve) in SCHEDULES.iter().zip(&curves) {
            let at = page.find(&format!("<figure id=\"schedules-{}\"", card.name));
            let figure = &page[at.unwrap_or_else(|| panic!("{} is missing", card.name))..];
            let figure = &figure[..figure.find("</figure>").expect("closed")];
            for part in [card.when, &escape(card.formula)] {
                assert!(figure.contains(part), "{}: {part}", card.name);
            }
            for k in SHOWN {
                let row = format!(
                    "<tr><td class=\"n\">{k}</td><td class=\"n\">{}</td></tr>",
                    short(curve.rates[k as usize])
                );
                assert!(figure.contains(&row), "{}: {row}", card.name);
            }
        }
    }

    #[test]
    fn numbers_are_short() {
        for (x, text) in [
            (0.0, "0"),
            (0.1, "0.1"),
            (1.0 / 3.0, "0.33333"),
            (4e-7, "4.000e-7"),
            (1234.0, "1234"),
            (2e5, "200000"),
        ] {
            assert_eq!(short(x), text);
        }
    }

    #[test]
    fn bare_numbers_of_arxiv_are_named() {
        assert_eq!(
            arxiv("1412.6980; AMSGrad: 1904.09237"),
            "arXiv 1412.6980; AMSGrad: arXiv 1904.09237"
        );
        assert_eq!(arxiv("Smith 2017, arXiv 1506.01186"), "Smith 2017, arXiv 1506.01186");
        assert_eq!(arxiv("Polyak 1964"), "Polyak 1964");
    }
}
