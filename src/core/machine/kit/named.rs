//! Defines enums whose values have a name in crash points, records and messages.

/// A value with a stable name.
pub trait Named: Copy + Ord + std::fmt::Debug + std::hash::Hash + Send + Sync + 'static {
    /// All values, in order.
    const ALL: &'static [Self];

    /// The name in crash points, records and messages.
    fn name(self) -> &'static str;
}

/// Defines a fieldless enum that is [`Named`]: `Value = "name"` for each value.
#[macro_export]
macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $value:ident = $name:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $type { $($(#[$vdoc])* $value),+ }

        impl $crate::machine::kit::Named for $type {
            const ALL: &'static [$type] = &[$($type::$value),+];

            fn name(self) -> &'static str {
                match self { $($type::$value => $name),+ }
            }
        }

        impl $type {
            /// All values, in order.
            pub const ALL: &'static [$type] = <$type as $crate::machine::kit::Named>::ALL;

            /// The name in crash points, records and messages.
            pub fn name(self) -> &'static str {
                $crate::machine::kit::Named::name(self)
            }
        }
    };
}
