//! Reads GGUF, the file format of llama.cpp: metadata, then tensors. The file may come from anywhere, so every length
//! is checked against what is left of it before anything is allocated or read; values stay where they are.

use std::collections::BTreeMap;
use std::fmt;

/// Why a model cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadError {
    /// The bytes are not those that were expected: damaged, or another version.
    Digest {
        /// The SHA-256 that was expected.
        expected: [u8; 32],
        /// The SHA-256 of the bytes.
        found: [u8; 32],
    },
    /// The file cannot be read.
    Unreadable {
        /// Which, and why.
        what: String,
    },
    /// The file ends too early. Fetch it again.
    Truncated {
        /// What was being read.
        what: String,
    },
    /// The file contradicts itself or its format.
    Malformed {
        /// Where, and how.
        what: String,
    },
    /// The file may be sound, but this engine cannot run it. Convert it, or serve it by another engine.
    Unsupported {
        /// What it needs.
        what: String,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest { expected, found } => {
                write!(f, "the model is not the one expected: its SHA-256 is ")?;
                found.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                write!(f, ", not ")?;
                expected.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Unreadable { what } => write!(f, "cannot read the model file {what}"),
            Self::Truncated { what } => write!(f, "the model file ends too early, in {what}; fetch it again"),
            Self::Malformed { what } => write!(f, "the model file is damaged: {what}"),
            Self::Unsupported { what } => write!(f, "this engine cannot run the model: {what}"),
        }
    }
}

impl std::error::Error for LoadError {}

pub(crate) fn malformed(what: impl Into<String>) -> LoadError {
    LoadError::Malformed { what: what.into() }
}

pub(crate) fn unsupported(what: impl Into<String>) -> LoadError {
    LoadError::Unsupported { what: what.into() }
}

/// A parsed file.
pub(crate) struct Gguf<'a> {
    meta: BTreeMap<&'a str, Value<'a>>,
    tensors: BTreeMap<&'a str, Tensor<'a>>,
}

/// A value of the metadata.
#[derive(Clone, Copy)]
pub(crate) enum Value<'a> {
    Unsigned(u64),
    /// Of no use to this engine.
    Signed,
    Real(f64),
    Flag(bool),
    Text(&'a str),
    Array {
        kind: u32,
        len: usize,
        bytes: &'a [u8],
    },
}

/// A tensor in the file: `rows` of `cols` values.
#[derive(Clone, Copy)]
pub(crate) struct Tensor<'a> {
    pub(crate) kind: Kind,
    pub(crate) cols: usize,
    pub(crate) rows: usize,
    pub(crate) bytes: &'a [u8],
}

/// How the values of a tensor are stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    F32,
    F16,
    /// Blocks of 32: a scale as F16, then 32 whole numbers.
    Q8,
    /// Blocks of 32: a scale as F16, then 32 whole numbers of four bits.
    Q4,
    /// The same with a least value after the scale.
    Q4Least,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Q8 => "Q8_0",
            Self::Q4 => "Q4_0",
            Self::Q4Least => "Q4_1",
        }
    }

    /// Values in a block, and bytes of a block.
    fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 => (1, 2),
            Self::Q8 => (32, 34),
            Self::Q4 => (32, 18),
            Self::Q4Least => (32, 20),
        }
    }
}

impl<'a> Gguf<'a> {
    pub(crate) fn parse(file: &'a [u8]) -> Result<Self, LoadError> {
        let mut reader = Reader { file, at: 0, what: "the header" };
        if reader.bytes(4)? != b"GGUF" {
            return Err(malformed("it does not begin with GGUF"));
        }
        match reader.u32()? {
            2 | 3 => {}
            version => return Err(unsupported(format!("GGUF version {version}; 2 and 3 are known"))),
        }
        let tensor_count = reader.u64()?;
        let meta_count = reader.u64()?;

        reader.what = "the metadata";
        let mut meta = BTreeMap::new();
        for _ in 0..meta_count {
            let key = reader.text()?;
            let kind = reader.u32()?;
            let value = reader.value(kind)?;
            if meta.insert(key, value).is_some() {
                return Err(malformed(format!("key {key:?} occurs twice")));
            }
        }
        let alignment = match meta.get("general.alignment") {
            None => 32,
            Some(Value::Unsigned(n)) if n.is_power_of_two() && *n <= 65_536 => *n as usize,
            Some(_) => return Err(malformed("general.alignment is not a power of two up to 65536")),
        };

        reader.what = "the list of tensors";
        let mut places = BTreeMap::new();
        for _ in 0..tensor_count {
            let (name, place) = reader.place()?;
            if places.insert(name, place).is_some() {
                return Err(malformed(format!("tensor {name:?} occurs twice")));
            }
        }
        let data = file.get(reader.at.next_multiple_of(alignment)..).unwrap_or_default();
        let tensors: BTreeMap<_, _> = places
            .into_iter()
            .map(|(name, place)| Ok((name, place.tensor(name, data, alignment)?)))
            .collect::<Result<_, LoadError>>()?;
        apart(tensors.values())?;
        Ok(Self { meta, tensors })
    }

    pub(crate) fn value(&self, key: &str) -> Option<Value<'a>> {
        self.meta.get(key).copied()
    }

    /// A whole number that must be there and fit into `range`.
    pub(crate) fn number(&self, key: &str, range: std::ops::RangeInclusive<u64>) -> Result<usize, LoadError> {
        match self.value(key) {
            Some(Value::Unsigned(n)) if range.contains(&n) => Ok(n as usize),
            Some(_) => Err(malformed(format!("{key} is not a number in {range:?}"))),
            None => Err(malformed(format!("{key} is missing"))),
        }
    }

    /// A positive number, if it is there.
    pub(crate) fn real(&self, key: &str) -> Result<Option<f32>, LoadError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Real(x)) if x > 0.0 && x < 1e12 => Ok(Some(x as f32)),
            Some(_) => Err(malformed(format!("{key} is not a positive number"))),
        }
    }

    /// A text that must be there.
    pub(crate) fn text(&self, key: &str) -> Result<&'a str, LoadError> {
        match self.value(key) {
            Some(Value::Text(text)) => Ok(text),
            Some(_) => Err(malformed(format!("{key} is not a text"))),
            None => Err(malformed(format!("{key} is missing"))),
        }
    }

    /// A list of texts that must be there.
    pub(crate) fn texts(&self, key: &str) -> Result<Vec<&'a str>, LoadError> {
        let Some(Value::Array { kind: TEXT, len, bytes }) = self.value(key) else {
            return Err(malformed(format!("{key} is missing or not a list of texts")));
        };
        let mut reader = Reader { file: bytes, at: 0, what: "a list" };
        (0..len).map(|_| reader.text()).collect()
    }

    /// A list of 32-bit integers, if it is there.
    pub(crate) fn integers(&self, key: &str) -> Result<Option<Vec<i32>>, LoadError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Array { kind: U32 | I32, bytes, .. }) => {
                Ok(Some(bytes.as_chunks().0.iter().map(|four| i32::from_le_bytes(*four)).collect()))
            }
            Some(_) => Err(malformed(format!("{key} is not a list of integers"))),
        }
    }

    /// Takes a tensor out, so that at the end nothing may be left.
    pub(crate) fn take(&mut self, name: &str) -> Option<Tensor<'a>> {
        self.tensors.remove(name)
    }

    /// The tensors not taken yet.
    pub(crate) fn left(&self) -> impl Iterator<Item = &'a str> {
        self.tensors.keys().copied()
    }
}

/// Each byte belongs to one tensor: a model takes no more memory than its file is long, times a small number.
fn apart<'a>(tensors: impl Iterator<Item = &'a Tensor<'a>>) -> Result<(), LoadError> {
    let mut places: Vec<_> = tensors.map(|tensor| tensor.bytes.as_ptr_range()).collect();
    places.sort_unstable_by_key(|place| place.start);
    match places.windows(2).any(|pair| pair[0].end > pair[1].start) {
        true => Err(malformed("tensors lie on each other")),
        false => Ok(()),
    }
}

const U32: u32 = 4;
const I32: u32 = 5;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// Where a tensor is said to be.
struct Place {
    shape: [u64; 4],
    kind: u32,
    offset: u64,
}

impl Place {
    fn tensor<'a>(&self, name: &str, data: &'a [u8], alignment: usize) -> Result<Tensor<'a>, LoadError> {
        let kind = match self.kind {
            0 => Kind::F32,
            1 => Kind::F16,
            2 => Kind::Q4,
            3 => Kind::Q4Least,
            8 => Kind::Q8,
            n => {
                let known = "F32 (0), F16 (1), Q4_0 (2), Q4_1 (3) and Q8_0 (8) are known";
                return Err(unsupported(format!("tensor {name:?} has type {n}; {known}")));
            }
        };
        let (values, size) = kind.block();
        let length = |n: u64| usize::try_from(n).ok();
        let place = || {
            let [cols, rows, more, most] = self.shape.map(length);
            let (cols, rows) = (cols?, rows?.checked_mul(more?)?.checked_mul(most?)?);
            let bytes = (cols / values).checked_mul(size)?.checked_mul(rows)?;
            let start = length(self.offset)?;
            Some((cols, rows, start, start.checked_add(bytes)?))
        };
        let (cols, rows, start, end) = place().ok_or_else(|| malformed(format!("tensor {name:?} is too large")))?;
        if cols == 0 || rows == 0 || !cols.is_multiple_of(values) || !start.is_multiple_of(alignment) {
            return Err(malformed(format!("tensor {name:?} has a wrong shape or offset")));
        }
        let bytes = data
            .get(start..end)
            .ok_or_else(|| LoadError::Truncated { what: format!("the data of tensor {name:?}") })?;
        Ok(Tensor { kind, cols, rows, bytes })
    }
}

struct Reader<'a> {
    file: &'a [u8],
    at: usize,
    what: &'static str,
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, n: usize) -> Result<&'a [u8], LoadError> {
        let end = self.at.checked_add(n).filter(|&end| end <= self.file.len());
        let end = end.ok_or_else(|| LoadError::Truncated { what: self.what.into() })?;
        let bytes = &self.file[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], LoadError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, LoadError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, LoadError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A length, which like all lengths cannot exceed what is left.
    fn length(&mut self) -> Result<usize, LoadError> {
        let length = self.u64()?;
        (usize::try_from(length).ok().filter(|&n| n <= self.file.len() - self.at))
            .ok_or_else(|| LoadError::Truncated { what: self.what.into() })
    }

    fn text(&mut self) -> Result<&'a str, LoadError> {
        let length = self.length()?;
        str::from_utf8(self.bytes(length)?).map_err(|_| malformed(format!("a text in {} is not UTF-8", self.what)))
    }

    fn value(&mut self, kind: u32) -> Result<Value<'a>, LoadError> {
        Ok(match kind {
            0 => Value::Unsigned(self.array::<1>()?[0].into()),
            1 => self.signed(1)?,
            2 => Value::Unsigned(u16::from_le_bytes(self.array()?).into()),
            3 => self.signed(2)?,
            U32 => Value::Unsigned(self.u32()?.into()),
            I32 => self.signed(4)?,
            6 => Value::Real(f32::from_le_bytes(self.array()?).into()),
            7 => match self.array::<1>()? {
                [0] => Value::Flag(false),
                [1] => Value::Flag(true),
                _ => return Err(malformed("a flag is neither 0 nor 1")),
            },
            TEXT => Value::Text(self.text()?),
            ARRAY => self.list()?,
            10 => Value::Unsigned(self.u64()?),
            11 => self.signed(8)?,
            12 => Value::Real(f64::from_le_bytes(self.array()?)),
            n => return Err(malformed(format!("a value has the unknown type {n}"))),
        })
    }

    fn signed(&mut self, size: usize) -> Result<Value<'a>, LoadError> {
        self.bytes(size).map(|_| Value::Signed)
    }

    fn list(&mut self) -> Result<Value<'a>, LoadError> {
        let kind = self.u32()?;
        let len = self.length()?;
        let start = self.at;
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            U32 | I32 | 6 => 4,
            10..=12 => 8,
            TEXT => {
                for _ in 0..len {
                    self.text()?;
                }
                return Ok(Value::Array { kind, len, bytes: &self.file[start..self.at] });
            }
            n => return Err(unsupported(format!("a list of values of type {n}"))),
        };
        // At most 8 times the length of the file.
        Ok(Value::Array { kind, len, bytes: self.bytes(len * size)? })
    }

    fn place(&mut self) -> Result<(&'a str, Place), LoadError> {
        let name = self.text()?;
        let dimensions = self.u32()? as usize;
        let mut shape = [1; 4];
        let Some(used) = shape.get_mut(..dimensions) else {
            return Err(malformed(format!("tensor {name:?} has {dimensions} dimensions")));
        };
        for length in used {
            *length = self.u64()?;
        }
        Ok((name, Place { shape, kind: self.u32()?, offset: self.u64()? }))
    }
}
