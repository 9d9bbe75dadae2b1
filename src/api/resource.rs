//! How a struct with `metadata` becomes a [`kube::Resource`].

/// Implements [`kube::Resource`] for a struct with a field `metadata`. The last argument computes the version from the
/// type's `DynamicType`.
macro_rules! resource {
    ($type:ident, $scope:ident, $group:literal, $plural:literal, $dynamic:ty, $version:expr) => {
        impl kube::Resource for $type {
            type DynamicType = $dynamic;
            type Scope = kube::core::$scope;

            fn kind(_: &$dynamic) -> std::borrow::Cow<'_, str> {
                stringify!($type).into()
            }

            fn group(_: &$dynamic) -> std::borrow::Cow<'_, str> {
                $group.into()
            }

            fn version(dynamic: &$dynamic) -> std::borrow::Cow<'_, str> {
                let version: fn(&$dynamic) -> &'static str = $version;
                version(dynamic).into()
            }

            fn plural(_: &$dynamic) -> std::borrow::Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &kube::core::ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut kube::core::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

pub(super) use resource;
