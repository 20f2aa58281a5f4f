//! What TOML does not know: absent values in lists, integers beyond 63 bits, and features, which are named.

/// Whether a value need not be written.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// `None` in a list: the word `"never"`.
pub(crate) mod maybe {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Maybe<T> {
        Word(Word),
        Value(T),
    }

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        Never,
    }

    pub(crate) fn serialize<T: Serialize, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => Maybe::Value(value).serialize(to),
            None => Maybe::<T>::Word(Word::Never).serialize(to),
        }
    }

    pub(crate) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
        Ok(match Maybe::deserialize(from)? {
            Maybe::Value(value) => Some(value),
            Maybe::Word(Word::Never) => None,
        })
    }
}

/// A number of 64 bits: as text, if it has more than 63.
pub(crate) mod wide {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Wide {
        Number(i64),
        Text(String),
    }

    pub(crate) fn serialize<S: Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
        i64::try_from(*value).map_or_else(|_| Wide::Text(value.to_string()), Wide::Number).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let read = match Wide::deserialize(from)? {
            Wide::Number(number) => u64::try_from(number).ok(),
            Wide::Text(text) => text.parse().ok(),
        };
        read.ok_or_else(|| D::Error::custom("a number from 0 to 2^64 - 1 is needed here; large ones in quotes"))
    }
}

/// The same, where it may be left out.
pub(crate) mod wide_option {
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    struct Wide(#[serde(with = "super::wide")] u64);

    pub(crate) fn serialize<S: Serializer>(value: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::wide::serialize(value, to),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        Option::<Wide>::deserialize(from).map(|wide| wide.map(|wide| wide.0))
    }
}

/// What an engine can do: names of features; or nothing, where no requests are taken at all.
pub(crate) mod features {
    use haggle_core::wire::message::Features;
    use serde::{Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(value: &Option<Features>, to: S) -> Result<S::Ok, S::Error> {
        super::maybe::serialize(&value.map(|features| features.names().collect::<Vec<_>>()), to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Features>, D::Error> {
        let named = |name: &String| {
            let unknown = || format!("there is no feature '{name}', but {}", Features::NAMES.join(", "));
            Features::named(name).ok_or_else(|| D::Error::custom(unknown()))
        };
        let all =
            |names: Vec<String>| names.iter().try_fold(Features::default(), |all, name| Ok(all.with(named(name)?)));
        super::maybe::deserialize(from)?.map(all).transpose()
    }
}
