//! Stored numbers to which transactions add without having read them.

/// Why a number could not be added to or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberError {
    /// The stored value is not a number of this form.
    NotANumber,
    /// The sum leaves its bounds.
    OutOfBounds,
}

/// How a number is stored: big-endian, in so many bytes, with a sign or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    size_bytes: u8,
    signed: bool,
}

impl Form {
    /// What `db_add` adds to.
    pub const COUNTER: Self = Self {
        size_bytes: 16,
        signed: true,
    };

    /// The form of a code: 1, 2, 4 or 8 bytes without a sign; negative, or -16, with one.
    pub fn new(code: i32) -> Option<Self> {
        let form = Self {
            size_bytes: u8::try_from(code.unsigned_abs()).ok()?,
            signed: code < 0,
        };
        matches!(code, 1 | 2 | 4 | 8 | -1 | -2 | -4 | -8 | -16).then_some(form)
    }

    /// The form's code in one byte.
    pub fn code(self) -> u8 {
        if self.signed {
            self.size_bytes.wrapping_neg()
        } else {
            self.size_bytes
        }
    }

    fn bits(self) -> u32 {
        8 * u32::from(self.size_bytes)
    }

    fn least(self) -> i128 {
        if self.signed {
            i128::MIN >> (128 - self.bits())
        } else {
            0
        }
    }

    fn most(self) -> i128 {
        i128::MAX >> (128 - self.bits() - u32::from(!self.signed))
    }

    /// The bytes of a number; of one outside the form's range the lowest.
    pub fn encode(self, number: i128) -> Vec<u8> {
        number.to_be_bytes()[16 - usize::from(self.size_bytes)..].to_vec()
    }

    /// The number stored, 0 where nothing is.
    ///
    /// # Errors
    /// When the value is not as long as the form's numbers are.
    pub fn decode(self, stored: Option<&[u8]>) -> Result<i128, NumberError> {
        let Some(stored) = stored else {
            return Ok(0);
        };
        if stored.len() != usize::from(self.size_bytes) {
            return Err(NumberError::NotANumber);
        }
        let negative = self.signed && stored[0] >> 7 == 1;
        let mut bytes = [if negative { 0xff } else { 0 }; 16];
        bytes[16 - stored.len()..].copy_from_slice(stored);
        Ok(i128::from_be_bytes(bytes))
    }

    /// What an addition makes of a value. Of one that is no such number the addition fails when
    /// it is settled, and whoever saw this runs again.
    pub(crate) fn add(self, stored: Option<&[u8]>, delta: i128) -> Vec<u8> {
        let below = self.decode(stored).unwrap_or(0);
        self.encode(below.wrapping_add(delta))
    }
}

/// What a sum must be for its addition to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    form: Form,
    low: i128,
    high: i128,
}

impl Bounds {
    /// Every number of a counter.
    pub const COUNTER: Self = Self {
        form: Form::COUNTER,
        low: i128::MIN,
        high: i128::MAX,
    };

    /// From `low` to `high`, both included, as far as the form reaches.
    pub fn new(form: Form, low: i128, high: i128) -> Self {
        Self {
            form,
            low: low.max(form.least()),
            high: high.min(form.most()),
        }
    }

    /// How the number is stored.
    pub fn form(&self) -> Form {
        self.form
    }

    /// A number plus a delta.
    ///
    /// # Errors
    /// When it is out of bounds.
    pub fn sum(&self, number: i128, delta: i128) -> Result<i128, NumberError> {
        let sum = number.checked_add(delta);
        sum.filter(|sum| self.low <= *sum && *sum <= self.high)
            .ok_or(NumberError::OutOfBounds)
    }

    /// What the number below must be for a running sum on it to be within bounds.
    pub(crate) fn room(&self, total: i128) -> Room {
        Room {
            form: self.form,
            low: self.low.saturating_sub(total),
            high: self.high.saturating_sub(total),
        }
    }
}

/// What a number that nobody has read was taken to be: from `low` to `high`, in this form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub(crate) form: Form,
    pub(crate) low: i128,
    pub(crate) high: i128,
}

impl Room {
    /// Whether the value that is there is so.
    pub fn holds(&self, stored: Option<&[u8]>) -> bool {
        let below = self.form.decode(stored);
        below.is_ok_and(|below| self.low <= below && below <= self.high)
    }

    pub(crate) fn narrow(&mut self, other: Self) {
        self.low = self.low.max(other.low);
        self.high = self.high.min(other.high);
    }
}
