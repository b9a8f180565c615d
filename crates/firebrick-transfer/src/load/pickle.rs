//! Reads which Python names a pickle calls on, without building, let alone running, anything.
//!
//! A pickle is a program; `torch.load` without `weights_only` runs it. burn's reader interprets the few calls that
//! rebuild tensors and skips all others silently. Here every name is listed, and a file that asks for more than
//! `torch.load(weights_only=True)` would allow is refused.

use std::collections::{BTreeSet, HashMap};

/// What rebuilds tensors and plain containers: torch's own list for `weights_only=True`, as of 2.x.
const ALLOWED: &[&str] = &[
    "collections.OrderedDict",
    "collections.defaultdict",
    "collections.Counter",
    "builtins.set",
    "builtins.frozenset",
    "builtins.bytearray",
    "builtins.complex",
    "__builtin__.set",
    "__builtin__.frozenset",
    "__builtin__.bytearray",
    "__builtin__.complex",
    "_codecs.encode",
    "torch.Size",
    "torch.Tensor",
    "torch.device",
    "torch.nn.Parameter",
    "torch.nn.parameter.Parameter",
    "torch.storage.TypedStorage",
    "torch.storage.UntypedStorage",
    "torch.serialization._get_layout",
    "torch._tensor._rebuild_from_type_v2",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
];

/// Names of element types under `torch.`
const DTYPES: &[&str] = &[
    "float",
    "double",
    "half",
    "float16",
    "float32",
    "float64",
    "bfloat16",
    "int8",
    "int16",
    "int32",
    "int64",
    "short",
    "int",
    "long",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
    "complex64",
    "complex128",
];

/// Whether a global is one of those that rebuild tensors.
pub(super) fn is_allowed(name: &str) -> bool {
    if ALLOWED.contains(&name) {
        return true;
    }
    let Some(rest) = name.strip_prefix("torch.") else { return false };
    let rest = rest.strip_prefix("cuda.").unwrap_or(rest);
    DTYPES.contains(&rest)
        || rest.strip_suffix("Storage").is_some_and(|kind| {
            !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
}

/// What one pickle asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// The globals as `module.name`.
    pub(super) globals: BTreeSet<String>,
    /// Where the pickle ends: one past its STOP.
    pub(super) end: usize,
}

/// Walks the opcodes of the pickle that begins at `start`.
///
/// # Errors
///
/// An unknown opcode, or an end in the middle of one; the text says at which byte.
pub(super) fn scan(bytes: &[u8], start: usize) -> Result<Scan, String> {
    let mut walk = Walk { bytes, at: start, ..Walk::default() };
    while walk.step()? {}
    Ok(Scan { globals: walk.globals, end: walk.at })
}

#[derive(Default)]
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    globals: BTreeSet<String>,
    memo: HashMap<u64, Option<String>>,
    /// The two newest values on the stack, where they are strings.
    recent: [Option<String>; 2],
}

impl<'a> Walk<'a> {
    fn take(&mut self, length: u64) -> Result<&'a [u8], String> {
        let from = self.at;
        let end = usize::try_from(length).ok().and_then(|length| from.checked_add(length));
        let piece = end.and_then(|end| self.bytes.get(from..end));
        let piece = piece.ok_or_else(|| {
            format!("the pickle ends in the middle of an operation at byte {from}")
        })?;
        self.at += piece.len();
        Ok(piece)
    }

    fn number(&mut self, width: u64) -> Result<u64, String> {
        let piece = self.take(width)?;
        Ok(piece.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn counted(&mut self, width: u64) -> Result<&'a [u8], String> {
        let length = self.number(width)?;
        self.take(length)
    }

    fn line(&mut self) -> Result<String, String> {
        let from = self.at;
        let length = self.bytes[from..].iter().position(|&byte| byte == b'\n');
        let length = length
            .ok_or_else(|| format!("the pickle ends in the middle of a line at byte {from}"))?;
        self.at += length + 1;
        Ok(String::from_utf8_lossy(&self.bytes[from..from + length]).into_owned())
    }

    fn push(&mut self, value: Option<String>) {
        self.recent.swap(0, 1);
        self.recent[1] = value;
    }

    fn text(&mut self, bytes: &[u8]) {
        self.push(Some(String::from_utf8_lossy(bytes).into_owned()));
    }

    fn recall(&mut self, key: u64) {
        let value = self.memo.get(&key).cloned().flatten();
        self.push(value);
    }

    fn keep(&mut self, key: u64) {
        self.memo.insert(key, self.recent[1].clone());
    }

    fn forget(&mut self) {
        self.recent = [None, None];
    }

    /// One operation; false at STOP.
    fn step(&mut self) -> Result<bool, String> {
        let place = self.at;
        let code = self.take(1)?[0];
        match code {
            b'.' => return Ok(false),
            b'c' | b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                self.globals.insert(format!("{module}.{name}"));
                self.push(None);
            }
            0x93 => {
                let [module, name] = std::mem::take(&mut self.recent);
                let global = match (module, name) {
                    (Some(module), Some(name)) => format!("{module}.{name}"),
                    _ => format!("a computed name at byte {place}"),
                };
                self.globals.insert(global);
                self.push(None);
            }
            0x82..=0x84 => {
                let key = self.number([1, 2, 4][usize::from(code - 0x82)])?;
                self.globals.insert(format!("extension {key}"));
                self.push(None);
            }
            b'X' | b'T' | b'B' => {
                let bytes = self.counted(4)?;
                self.text(bytes);
            }
            b'U' | b'C' | 0x8c => {
                let bytes = self.counted(1)?;
                self.text(bytes);
            }
            0x8d | 0x8e | 0x96 => {
                let bytes = self.counted(8)?;
                self.text(bytes);
            }
            b'V' => {
                let line = self.line()?;
                self.push(Some(line));
            }
            b'S' => {
                let line = self.line()?;
                self.push(Some(line.trim_matches(['\'', '"']).to_owned()));
            }
            b'I' | b'L' | b'F' | b'P' => {
                self.line()?;
                self.push(None);
            }
            b'g' => {
                let key = decimal(&self.line()?, place)?;
                self.recall(key);
            }
            b'p' => {
                let key = decimal(&self.line()?, place)?;
                self.keep(key);
            }
            b'h' | b'j' => {
                let key = self.number(if code == b'h' { 1 } else { 4 })?;
                self.recall(key);
            }
            b'q' | b'r' => {
                let key = self.number(if code == b'q' { 1 } else { 4 })?;
                self.keep(key);
            }
            0x94 => self.keep(self.memo.len() as u64),
            b'J' => self.skip(4)?,
            b'K' => self.skip(1)?,
            b'M' => self.skip(2)?,
            b'G' => self.skip(8)?,
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            0x8a => {
                self.counted(1)?;
                self.push(None);
            }
            0x8b => {
                self.counted(4)?;
                self.push(None);
            }
            // Operations without an argument, whatever they do to the stack: what stood there is forgotten.
            b'('
            | b')'
            | b'0'
            | b'1'
            | b'2'
            | b'N'
            | b'R'
            | b'b'
            | b'd'
            | b'l'
            | b't'
            | b's'
            | b'a'
            | b']'
            | b'}'
            | b'e'
            | b'u'
            | b'o'
            | b'Q'
            | 0x81
            | 0x85..=0x89
            | 0x8f..=0x92
            | 0x97
            | 0x98 => self.forget(),
            other => return Err(format!("0x{other:02x} at byte {place} is no pickle operation")),
        }
        Ok(true)
    }

    fn skip(&mut self, length: u64) -> Result<(), String> {
        self.take(length)?;
        self.push(None);
        Ok(())
    }
}

fn decimal(line: &str, place: usize) -> Result<u64, String> {
    line.trim().parse().map_err(|_| format!("`{line}` at byte {place} is no memo key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globals(bytes: &[u8]) -> Vec<String> {
        scan(bytes, 0).expect("a pickle").globals.into_iter().collect()
    }

    /// `pickle.dumps` of an object whose `__reduce__` gives `(os.system, ("true",))`, protocols 0, 2 and 4.
    #[test]
    fn a_call_is_seen_in_every_protocol() {
        assert_eq!(globals(b"cposix\nsystem\np0\n(Vtrue\np1\ntp2\nRp3\n."), ["posix.system"]);
        let two = b"\x80\x02cposix\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03.";
        assert_eq!(globals(two), ["posix.system"]);
        let four =
            b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94.";
        assert_eq!(globals(four), ["posix.system"]);
    }

    #[test]
    fn a_call_whose_result_is_dropped_is_seen_too() {
        let dropped = b"\x80\x02cbuiltins\nexec\nX\x01\x00\x00\x00x\x85R0}.";
        assert_eq!(globals(dropped), ["builtins.exec"]);
    }

    #[test]
    fn a_name_that_is_put_together_on_the_stack_is_not_believed() {
        // Both strings come from the memo, as Python writes a second use of them.
        let memo = b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x940\x300h\x00h\x01\x93.";
        assert_eq!(globals(memo), ["posix.system"]);
        // A tuple stands where the name should.
        let computed = b"\x80\x04\x8c\x05posix\x8c\x06system\x85\x93.";
        assert_eq!(globals(computed), ["a computed name at byte 18"]);
        assert!(!is_allowed("a computed name at byte 18"));
        assert_eq!(globals(b"\x80\x02\x82\x07."), ["extension 7"]);
    }

    #[test]
    fn what_rebuilds_tensors_is_allowed_and_nothing_beside_it() {
        for name in [
            "torch._utils._rebuild_tensor_v2",
            "torch.FloatStorage",
            "torch.cuda.HalfStorage",
            "torch.float32",
        ] {
            assert!(is_allowed(name), "{name}");
        }
        for name in [
            "torch.load",
            "torch.hub.load",
            "torch.os.Storage",
            "builtins.eval",
            "numpy.core.multiarray.scalar",
            "torch.Storage",
        ] {
            assert!(!is_allowed(name), "{name}");
        }
    }

    #[test]
    fn damage_is_reported_with_its_place() {
        assert!(scan(b"", 0).is_err());
        assert!(scan(b"\x80", 0).expect_err("short").contains("byte 1"));
        assert!(scan(b"\x80\x02X\xff\xff\xff\xffab.", 0).is_err());
        assert!(scan(b"\x80\x02\xfe.", 0).expect_err("no operation").contains("0xfe"));
        assert!(scan(b"cposix", 0).is_err());
        assert!(scan(b"gx\n.", 0).is_err());
    }

    #[test]
    fn pickles_in_a_row_are_told_apart() {
        let bytes = b"\x80\x02K\x01.\x80\x02}.";
        let first = scan(bytes, 0).expect("first");
        assert_eq!(first.end, 5);
        assert_eq!(scan(bytes, first.end).expect("second").end, bytes.len());
    }
}
