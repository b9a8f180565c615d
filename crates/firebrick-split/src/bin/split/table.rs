//! A CSV file as text cells (RFC 4180), with or without a header.

use std::collections::HashSet;
use std::io::Read as _;
use std::path::Path;

/// How compressed files begin.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Whether the first line names the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    Yes,
    No,
    /// It is found out, see [`is_header`].
    Auto,
}

/// The cells of a file.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    /// Reads a file of which the columns `wanted` will be asked for.
    pub(crate) fn read(path: &Path, header: Header, wanted: &[&str]) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
        let mut bytes = std::fs::read(path).map_err(failed)?;
        if bytes.starts_with(&GZIP) {
            let mut text = Vec::new();
            flate2::read::MultiGzDecoder::new(bytes.as_slice())
                .read_to_end(&mut text)
                .map_err(failed)?;
            bytes = text;
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = 1 + valid.iter().filter(|&&byte| byte == b'\n').count();
            format!("{} is not UTF-8 text: see line {line}", path.display())
        })?;
        Self::parse(text.strip_prefix('\u{feff}').unwrap_or(&text), header, wanted)
            .map_err(|e| format!("{}: {e}", path.display()))
    }

    pub(crate) fn parse(text: &str, header: Header, wanted: &[&str]) -> Result<Self, String> {
        let mut rows = records(text)?;
        let Some(first) = rows.first() else { return Err("the file is empty".into()) };
        let width = first.1.len();
        if let Some((line, row)) = rows.iter().find(|(_, row)| row.len() != width) {
            return Err(format!("line {line} has {} cells, the first has {width}", row.len()));
        }
        let is_header = match header {
            Header::Yes => true,
            Header::No => false,
            Header::Auto => is_header(&rows, wanted),
        };
        let header = if is_header {
            rows.remove(0).1
        } else {
            (0..width).map(|column| column.to_string()).collect()
        };
        if rows.is_empty() {
            return Err("there is a header, but no row".into());
        }
        Ok(Self { header, rows: rows.into_iter().map(|(_, row)| row).collect() })
    }

    /// The place of a column, by name or number.
    pub(crate) fn column(&self, name: &str) -> Result<usize, String> {
        let called = |place: &usize| self.header[*place].trim() == name;
        match (0..self.header.len()).filter(called).collect::<Vec<usize>>()[..] {
            [] => {}
            [place] => return Ok(place),
            ref places => {
                return Err(format!(
                    "{} columns are called {name:?}; give the number of one: {places:?}",
                    places.len()
                ));
            }
        }
        let width = self.header.len();
        let number = name.parse::<i64>().ok().map(|n| if n < 0 { n + width as i64 } else { n });
        match number.and_then(|n| usize::try_from(n).ok()) {
            Some(place) if place < width => Ok(place),
            _ => {
                let known: Vec<&str> = self.header.iter().map(String::as_str).take(20).collect();
                let other = width == 1 && known.iter().any(|name| name.contains([';', '\t', '|']));
                let hint = if other { "; cells must be separated by commas" } else { "" };
                Err(format!("no column {name:?}; there are {width}: {}{hint}", known.join(", ")))
            }
        }
    }

    pub(crate) fn texts(&self, column: usize) -> impl Iterator<Item = String> + '_ {
        self.rows.iter().map(move |row| row[column].trim().to_owned())
    }

    /// The cells of a column in which every row must have a value, since a class or group of "nothing" is none.
    pub(crate) fn filled(&self, column: usize) -> Result<Vec<String>, String> {
        let texts: Vec<String> = self.texts(column).collect();
        match texts.iter().position(|cell| is_missing(cell)) {
            None => Ok(texts),
            Some(row) => {
                let (name, cell) = (&self.header[column], &texts[row]);
                Err(format!(
                    "row {row} of column {name:?} has no value: {cell:?}; fill it in or leave the row out"
                ))
            }
        }
    }

    pub(crate) fn times(&self, column: usize) -> Result<Vec<i64>, String> {
        let bad = |row: usize, cell: &str| {
            format!("row {row} of the time column is neither a whole number nor a date: {cell:?}")
        };
        self.rows
            .iter()
            .enumerate()
            .map(|(row, cells)| time(cells[column].trim()).ok_or_else(|| bad(row, &cells[column])))
            .collect()
    }

    /// What the audit looks at, but for the columns that are used otherwise.
    pub(crate) fn content(&self, used: &[usize]) -> Content {
        let number = |cell: &str| cell.trim().parse::<f32>().ok();
        let is_number = |cell: &str| cell.parse::<f64>().is_ok();
        let cells = |column: usize| self.rows.iter().map(move |row| row[column].trim());
        let mut content = Content::default();
        for column in (0..self.header.len()).filter(|column| !used.contains(column)) {
            // Cells without a value are no reason to take measurements for texts.
            let numeric = cells(column).all(|cell| is_number(cell) || is_missing(cell))
                && !cells(column).all(is_missing);
            // What numbers or names each row would hide every duplicate; measured values may all differ.
            let measured = numeric && cells(column).any(|cell| cell.contains(['.', 'e', 'E']));
            let mut seen = HashSet::new();
            if !measured && self.rows.len() > 1 && cells(column).all(|cell| seen.insert(cell)) {
                content.identifiers.push(column);
            } else if numeric && is_kept(cells(column)) {
                content.numeric.push(column);
            } else {
                content.textual.push(column);
                if numeric {
                    content.wide.push(column);
                }
            }
        }
        for row in &self.rows {
            let number = |&column: &usize| number(&row[column]).unwrap_or(f32::NAN);
            content.values.extend(content.numeric.iter().map(number));
            if !content.textual.is_empty() {
                let cells: Vec<&str> = content.textual.iter().map(|&c| row[c].as_str()).collect();
                content.texts.push(cells.join("\u{1f}"));
            }
        }
        content
    }
}

/// The columns of a table by what they hold.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Content {
    /// Columns of numbers, and their values by row.
    pub(crate) numeric: Vec<usize>,
    pub(crate) values: Vec<f32>,
    /// All other columns, and their joined text for each row.
    pub(crate) textual: Vec<usize>,
    pub(crate) texts: Vec<String>,
    /// Those of them that hold numbers, which 32-bit floats would not keep apart.
    pub(crate) wide: Vec<usize>,
    /// Columns that name each row: no value occurs twice, and none is a fraction.
    pub(crate) identifiers: Vec<usize>,
}

/// What a cell without a value holds.
fn is_missing(cell: &str) -> bool {
    cell.is_empty() || cell == "NA" || cell.eq_ignore_ascii_case("nan")
}

/// Whether 32-bit floats keep the whole numbers of a column apart; otherwise different rows would look equal. Of measured
/// values, which are rounded anyway, two may share one.
fn is_kept<'a>(cells: impl Iterator<Item = &'a str>) -> bool {
    let (mut wide, mut narrow) = (HashSet::new(), HashSet::new());
    for cell in cells {
        if let Ok(whole) = cell.parse::<i128>() {
            narrow.insert((whole as f32).to_bits());
            wide.insert(whole);
        } else if !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit()) {
            return false;
        }
    }
    wide.len() == narrow.len()
}

/// A first line without any number is a header, and one with numbers where it names a column that is asked for, or
/// where it counts its columns from 0 (as pandas does) and has a name over a column of numbers.
fn is_header(rows: &[(usize, Vec<String>)], wanted: &[&str]) -> bool {
    let number = |cell: &str| cell.trim().parse::<f64>().is_ok();
    let Some(((_, first), below)) = rows.split_first() else { return false };
    let named = |cell: &String| wanted.contains(&cell.trim()) && !number(cell);
    if !first.iter().any(|cell| number(cell)) || first.iter().any(named) {
        return true;
    }
    let mut counts = first.iter().filter(|cell| number(cell)).enumerate();
    let counted = counts.all(|(count, cell)| cell.trim() == count.to_string());
    // An empty cell is no name, unless it stands over the row numbers of pandas.
    let row_numbers = |column: usize| {
        let mut cells = below.iter().map(|(_, row)| row[column].trim()).enumerate();
        column == 0 && cells.all(|(count, cell)| cell == count.to_string())
    };
    let over_numbers = |column: usize| {
        let cell = first[column].trim();
        let is_name = !number(cell) && !is_missing(cell) && cell != "?";
        let is_index = cell.is_empty() && row_numbers(column);
        (is_name || is_index) && below.iter().all(|(_, row)| number(&row[column]))
    };
    counted && !below.is_empty() && (0..first.len()).any(over_numbers)
}

/// Records with the line on which each begins; empty lines are skipped.
fn records(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut begin, mut quoted, mut was_quoted) = (1usize, 1usize, false, false);
    let mut chars = text.chars().peekable();
    let mut finish = |row: &mut Vec<String>, cell: &mut String, begin: usize, was_quoted: bool| {
        if !row.is_empty() || !cell.is_empty() || was_quoted {
            row.push(std::mem::take(cell));
            rows.push((begin, std::mem::take(row)));
        }
    };
    while let Some(next) = chars.next() {
        match next {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if cell.is_empty() && !was_quoted => (quoted, was_quoted) = (true, true),
            ',' if !quoted => {
                row.push(std::mem::take(&mut cell));
                was_quoted = false;
            }
            '\r' if !quoted && chars.peek() == Some(&'\n') => {}
            // A carriage return alone ends a line too, as it did on old machines.
            '\n' | '\r' if !quoted => {
                finish(&mut row, &mut cell, begin, was_quoted);
                line += 1;
                (begin, was_quoted) = (line, false);
            }
            other => {
                line += usize::from(other == '\n');
                cell.push(other);
            }
        }
    }
    if quoted {
        return Err(format!("the quoted cell that begins on line {begin} has no end"));
    }
    finish(&mut row, &mut cell, begin, was_quoted);
    Ok(rows)
}

/// Hours and minutes east of Greenwich, `+02:00`, `-0530` or `+02`, in seconds.
fn offset(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('+') {
        Some(digits) => (1, digits),
        None => (-1, text.strip_prefix('-')?),
    };
    let digits = digits.replace(':', "");
    if !matches!(digits.len(), 2 | 4) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: i64 = digits.parse().ok()?;
    let (hours, minutes) =
        if digits.len() == 4 { (number / 100, number % 100) } else { (number, 0) };
    (hours < 24 && minutes < 60).then_some(sign * (3600 * hours + 60 * minutes))
}

/// A whole number, or a date (and time of day) as seconds since 1970.
fn time(cell: &str) -> Option<i64> {
    if let Ok(number) = cell.parse() {
        return Some(number);
    }
    let (date, clock) = match cell.split_once(['T', ' ']) {
        Some((date, clock)) => (date, clock.trim_end_matches('Z')),
        None => (cell, "00:00:00"),
    };
    let (clock, east) = match clock.find(['+', '-']) {
        Some(at) => (clock[..at].trim_end(), offset(&clock[at..])?),
        None => (clock, 0),
    };
    let mut parts = date.splitn(3, '-').map(str::parse::<i64>);
    let (Some(Ok(year)), Some(Ok(month)), Some(Ok(day))) =
        (parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *usize::try_from(month - 1).ok().and_then(|m| lengths.get(m))?;
    if !(1..=length).contains(&day) || !(0..=9999).contains(&year) {
        return None;
    }
    let mut seconds = 0;
    let mut fields = clock.splitn(3, ':');
    for limit in [24, 60, 60] {
        let field: i64 = match fields.next() {
            Some(text) => {
                text.split('.').next()?.parse().ok().filter(|v| (0..limit).contains(v))?
            }
            None => 0,
        };
        seconds = seconds * 60 + field;
    }
    // Days from the civil date, March being the first month of the year.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day
            - 1;
    Some((days - 719_468) * 86_400 + seconds - east)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Table, String> {
        Table::parse(text, Header::Auto, &[])
    }

    #[test]
    fn headers_are_found_also_where_they_hold_numbers() {
        let rows = |text: &str, header: Header, wanted: &[&str]| {
            Table::parse(text, header, wanted).expect("parses").rows.len()
        };
        for (text, wanted, count) in [
            // A name that is asked for; without it the line could be a row.
            ("0,1,kind\n2.5,3,u\n1,2,v\n", vec!["kind"], 2),
            ("0,1,kind\n2.5,3,u\n1,2,v\n", vec!["-1"], 3),
            ("2020,2021,kind\n2.5,3,u\n", vec!["kind"], 1),
            // Counted columns with a name over numbers, or with the row numbers of pandas.
            ("0,1,label\n2.5,3,1\n1,2,0\n", vec!["-1"], 2),
            (",0,1,kind\n0,2.5,3,u\n1,1,2,v\n", vec!["-1"], 2),
            // Rows: numbers that do not count, a missing value, no name over numbers.
            ("5,1,label\n2.5,3,1\n", vec!["-1"], 2),
            ("0,1,NA\n2.5,3,1\n", vec!["-1"], 2),
            ("0,1,u\n2.5,3,v\n", vec!["-1"], 2),
            ("0,,1\n2,3,4\n", vec!["0"], 2),
        ] {
            assert_eq!(rows(text, Header::Auto, &wanted), count, "{text:?} {wanted:?}");
        }
        assert_eq!(rows("1,2\n3,4\n", Header::Yes, &[]), 1);
        assert_eq!(rows("a,b\n3,4\n", Header::No, &[]), 2);
        assert!(Table::parse("1,2\n", Header::Yes, &[]).is_err());
    }

    #[test]
    fn labels_without_a_value_are_refused_by_row_and_column() {
        for cell in ["", " ", "NA", "nan", "NaN"] {
            let table = parse(&format!("x,kind\n1,u\n2,{cell}\n3,v\n")).expect("parses");
            let error = table.filled(1).expect_err("row 1 has none");
            assert!(error.contains("row 1 of column \"kind\" has no value"), "{error}");
            assert_eq!(table.filled(0), Ok(vec!["1".into(), "2".into(), "3".into()]));
        }
    }

    #[test]
    fn numbers_that_32_bits_do_not_keep_apart_are_texts() {
        let table = parse(
            "a,b,c,d\n16777216,9007199254740992,0.1,1\n16777217,9007199254740993,0.5,1\n16777216,9007199254740992,0.1,2\n",
        )
        .expect("parses");
        let content = table.content(&[]);
        assert_eq!(
            (content.numeric, content.textual, content.wide),
            (vec![2, 3], vec![0, 1], vec![0, 1])
        );
        assert_eq!(content.texts[0], content.texts[2]);
        assert_ne!(content.texts[0], content.texts[1]);
    }

    #[test]
    fn measurements_with_gaps_stay_numbers() {
        let table = parse("a,b,c\n0.5,,x\nNA,NaN,\n1.5,NA,y\n0.5,,x\n").expect("parses");
        let content = table.content(&[]);
        // A column without any value is no column of numbers.
        assert_eq!((content.numeric, content.textual), (vec![0], vec![1, 2]));
        assert_eq!((content.values[0], content.values[2]), (0.5, 1.5));
        assert!(content.values[1].is_nan());
        // Numbers that no type holds are told apart as texts.
        let (a, b) = ("1".repeat(60), "1".repeat(59) + "2");
        let table = parse(&format!("id,n\n{a},1\n{b},1\n{a},2\n")).expect("parses");
        assert_eq!(table.content(&[]).wide, [0]);
    }

    #[test]
    fn a_name_that_two_columns_have_is_refused() {
        let table = parse("x,kind,kind\n1,u,v\n").expect("parses");
        let error = table.column("kind").expect_err("two");
        assert_eq!(error, "2 columns are called \"kind\"; give the number of one: [1, 2]");
        assert_eq!(table.column("2"), Ok(2));
        let table = parse("x;kind\n1;u\n").expect("parses");
        assert!(table.column("kind").expect_err("one column").ends_with("separated by commas"));
    }

    #[test]
    fn quotes_and_line_ends_are_understood() {
        let table = parse("a,b\r\n\"x, \"\"y\"\"\",1\n\n\"two\nlines\",\"\"\n").expect("parses");
        assert_eq!(table.header, ["a", "b"]);
        assert_eq!(table.rows, [["x, \"y\"", "1"], ["two\nlines", ""]]);
        assert_eq!(parse("1,2\n3,4").expect("no header").rows.len(), 2);
        assert_eq!(parse("a,b\r1,2\r3,\"4\r5\"\r").expect("old").rows, [["1", "2"], ["3", "4\r5"]]);
        for (text, part) in
            [("", "empty"), ("a,b\n", "no row"), ("1,2\n3\n", "line 2 has 1"), ("\"a", "no end")]
        {
            let error = parse(text).expect_err(part);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn columns_are_found_by_name_and_number() {
        let table = parse("id,size,kind\nq,2,u\nr,3,v\n").expect("parses");
        assert_eq!(
            (table.column("size"), table.column("-1"), table.column("0")),
            (Ok(1), Ok(2), Ok(0))
        );
        assert!(table.column("other").expect_err("unknown").contains("id, size, kind"));
        assert!(table.column("3").is_err());
        let table = parse("id,size,kind,x\nq,2,u,0.5\nr,2,v,1.5\ns,3,v,2\n").expect("parses");
        let content = table.content(&[]);
        assert_eq!(
            (content.identifiers, content.numeric, content.textual),
            (vec![0], vec![1, 3], vec![2])
        );
        assert_eq!(content.values, [2.0, 0.5, 2.0, 1.5, 3.0, 2.0]);
        assert_eq!(content.texts, ["u", "v", "v"]);
        assert_eq!(table.content(&[0, 2]).textual, [0usize; 0]);
    }

    proptest::proptest! {
        /// Whatever the text is, it is a table or an error.
        #[test]
        fn any_text_is_read_or_refused(text in "[a1,\"\n\r .-]{0,60}") {
            if let Ok(table) = parse(&text) {
                let width = table.header.len();
                proptest::prop_assert!(table.rows.iter().all(|row| row.len() == width));
                let content = table.content(&[0]);
                proptest::prop_assert_eq!(content.values.len(), content.numeric.len() * table.rows.len());
                let _ = table.times(width - 1);
            }
        }
    }

    #[test]
    fn dates_are_seconds() {
        assert_eq!(time("-5"), Some(-5));
        assert_eq!(time("1970-01-02"), Some(86_400));
        assert_eq!(time("2000-02-29T12:34:56Z"), Some(951_827_696));
        assert_eq!(time("1969-12-31 23:59"), Some(-60));
        for noon in ["12:00:00Z", "14:00+02:00", "06:30:00.5-0530", "13:00:00+01"] {
            assert_eq!(time(&format!("1970-01-02T{noon}")), Some(129_600), "{noon}");
        }
        for bad in [
            "",
            "2001-02-29",
            "2001-13-01",
            "2001-01-01T25:00",
            "2001-01-01T12:00+2",
            "2001-01-01T12:00+02:60",
            "soon",
            "1.5",
            "2001-01",
        ] {
            assert_eq!(time(bad), None, "{bad}");
        }
    }
}
