//! The rules of a descriptor set: which request calls which method.

use super::template::{NotText, Template};
use crate::settings::Transcode;
use http::Method;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    Value,
};
use std::{path::Path, sync::Arc};
use values::Diagnostic;

/// Maximum size of a descriptor set, in bytes.
const MAX_DESCRIPTOR_SET: u64 = 64 << 20;
/// The option that holds the rules.
const OPTION: &str = "google.api.http";

/// A method that can be called.
#[derive(Debug)]
pub(crate) struct RpcMethod {
    /// `/package.Service/Method`.
    pub(crate) path: String,
    pub(crate) input: MessageDescriptor,
    pub(crate) output: MessageDescriptor,
    /// Whether it streams responses.
    pub(crate) streams: bool,
}

/// Which part of the request the HTTP body holds.
#[derive(Clone, Debug)]
pub(crate) enum RequestBody {
    /// Nothing.
    None,
    /// Everything that is not in the path.
    All,
    /// A field.
    Field(FieldDescriptor),
}

/// One HTTP binding of a method.
#[derive(Debug)]
pub(crate) struct HttpRule {
    pub(crate) method: Method,
    pub(crate) template: Template,
    /// The fields of the template's variables, each as a path from the request message.
    pub(crate) variables: Vec<Vec<FieldDescriptor>>,
    pub(crate) body: RequestBody,
    /// The response field to return instead of the whole message.
    pub(crate) response: Option<FieldDescriptor>,
    pub(crate) call: Arc<RpcMethod>,
}

/// All rules, in match order.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) pool: DescriptorPool,
    rules: Vec<Arc<HttpRule>>,
    /// `package.Service/Method` of every method in the set, sorted.
    names: Vec<String>,
}

/// The result of matching a request.
pub(crate) enum RuleMatch {
    /// A rule, and the values of its path variables.
    Call(Arc<HttpRule>, Result<Vec<String>, NotText>),
    /// The path matches only with these methods.
    Methods(Vec<Method>),
    /// Nothing.
    Nothing,
}

impl Rules {
    /// Reads the descriptor file and its rules.
    pub(crate) fn load(settings: &Transcode) -> Result<Self, Vec<Diagnostic>> {
        let file = &settings.descriptors;
        let wrong = |message: String, hint: &str| {
            vec![Diagnostic::at(&["transcode", "descriptors"], message, hint)]
        };
        let protoc = "write it with `protoc --include_imports --descriptor_set_out=FILE …`";
        let unreadable = |error: std::io::Error| {
            wrong(format!("the descriptor set `{file}` can't be read: {error}"), protoc)
        };
        let bytes =
            values::read_regular(Path::new(file), MAX_DESCRIPTOR_SET).map_err(unreadable)?;
        let pool = DescriptorPool::decode(bytes.as_slice())
            .map_err(|error| wrong(format!("`{file}` is no descriptor set: {error}"), protoc))?;
        Self::new(pool, settings)
    }

    /// The rules of a descriptor set.
    pub(crate) fn new(pool: DescriptorPool, settings: &Transcode) -> Result<Self, Vec<Diagnostic>> {
        let mut it = Self { pool: pool.clone(), rules: Vec::new(), names: Vec::new() };
        let mut mistakes = Vec::new();
        let file = &settings.descriptors;
        for name in settings.services.iter() {
            if pool.get_service_by_name(name).is_none() {
                let message = format!("there is no service `{name}` in `{file}`");
                let known: Vec<_> = pool.services().map(|it| it.full_name().to_owned()).collect();
                let hint = format!("it has {}", known.join(", "));
                mistakes.push(Diagnostic::at(&["transcode", "services"], message, hint));
            }
        }
        for service in pool.services() {
            let wanted = settings.services.is_empty()
                || settings.services.iter().any(|name| name == service.full_name());
            for method in service.methods() {
                it.names.push(format!("{}/{}", service.full_name(), method.name()));
                if !wanted {
                    continue;
                }
                if let Err(message) = it.add(&method, settings.unbound_methods) {
                    let message = format!("`{}` in `{file}`: {message}", method.full_name());
                    mistakes.push(Diagnostic::at(&["transcode", "descriptors"], message, ""));
                }
            }
        }
        if it.rules.is_empty() && mistakes.is_empty() {
            let message = format!("no method in `{file}` has a `google.api.http` rule");
            let hint = "add rules, or set `unbound_methods: true`";
            mistakes.push(Diagnostic::at(&["transcode", "descriptors"], message, hint));
        }
        it.rules.sort_by(|a, b| a.template.order().cmp(&b.template.order()));
        it.names.sort();
        if mistakes.is_empty() { Ok(it) } else { Err(mistakes) }
    }

    /// Finds the rule of a request.
    pub(crate) fn find(&self, method: &Method, path: &str) -> RuleMatch {
        let mut others = Vec::new();
        // GET implies HEAD (RFC 9110, 9.1).
        let mut heads = None;
        for rule in &self.rules {
            let Some(values) = rule.template.matches(path) else { continue };
            if rule.method == *method {
                return RuleMatch::Call(Arc::clone(rule), values);
            }
            if rule.method == Method::GET && *method == Method::HEAD && heads.is_none() {
                heads = Some(RuleMatch::Call(Arc::clone(rule), values));
            }
            let implied = (rule.method == Method::GET).then_some(Method::HEAD);
            for method in std::iter::once(rule.method.clone()).chain(implied) {
                if !others.contains(&method) {
                    others.push(method);
                }
            }
        }
        if let Some(found) = heads {
            return found;
        }
        if others.is_empty() { RuleMatch::Nothing } else { RuleMatch::Methods(others) }
    }

    /// Whether `package.Service/Method` is in the set.
    pub(crate) fn has_method(&self, name: &str) -> bool {
        self.names.binary_search_by(|it| it.as_str().cmp(name)).is_ok()
    }

    fn add(&mut self, method: &MethodDescriptor, unbound: bool) -> Result<(), String> {
        // A client stream can't be one JSON request.
        if method.is_client_streaming() {
            return Ok(());
        }
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let call = Arc::new(RpcMethod {
            path,
            input: method.input(),
            output: method.output(),
            streams: method.is_server_streaming(),
        });
        let option = self.pool.get_extension_by_name(OPTION);
        let options = method.options();
        let written = option.filter(|option| options.has_extension(option));
        let Some(written) = written.map(|option| options.get_extension(&option).into_owned())
        else {
            if unbound {
                let template = Template::parse(&call.path)?;
                let (body, variables) = (RequestBody::All, Vec::new());
                let method = Method::POST;
                let rule = HttpRule { method, template, variables, body, response: None, call };
                self.rules.push(Arc::new(rule));
            }
            return Ok(());
        };
        let written = written.as_message().ok_or("its `google.api.http` is no rule")?.clone();
        self.rules.push(Arc::new(rule(&written, &call)?));
        let more = written.get_field_by_name("additional_bindings");
        for more in more.iter().filter_map(|it| it.as_list()).flatten() {
            let more = more.as_message().ok_or("a rule is none")?;
            self.rules.push(Arc::new(rule(more, &call)?));
        }
        Ok(())
    }
}

/// A text field of a rule.
fn text(rule: &DynamicMessage, field: &str) -> String {
    let value = rule.get_field_by_name(field);
    value.as_deref().and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The method and the path of a rule.
fn pattern(written: &DynamicMessage) -> Result<(Method, String), String> {
    for (field, method) in [
        ("get", Method::GET),
        ("put", Method::PUT),
        ("post", Method::POST),
        ("delete", Method::DELETE),
        ("patch", Method::PATCH),
    ] {
        if written.has_field_by_name(field) {
            return Ok((method, text(written, field)));
        }
    }
    let custom = written.get_field_by_name("custom");
    let custom = custom.as_deref().and_then(Value::as_message).ok_or("its rule has no path")?;
    let kind = text(custom, "kind");
    let method = Method::from_bytes(kind.as_bytes()).map_err(|_| format!("`{kind}` is no method"));
    Ok((method?, text(custom, "path")))
}

fn rule(written: &DynamicMessage, call: &Arc<RpcMethod>) -> Result<HttpRule, String> {
    let (method, path) = pattern(written)?;
    let template = Template::parse(&path)?;
    let field_of = |message: &MessageDescriptor, name: &str| {
        let unknown = || format!("`{}` has no field `{name}`", message.full_name());
        message.get_field_by_name(name).ok_or_else(unknown)
    };
    let variable = |variable: &super::template::Variable| {
        let fields = field_path(&call.input, &variable.field);
        let fields = fields.map_err(|why| match why {
            FieldPathError::Unknown => {
                format!("`{}` has no field `{}`", call.input.full_name(), variable.field)
            }
            FieldPathError::TooDeep => {
                format!("`{}` is deeper than {MAX_FIELD_PATH} names", variable.field)
            }
        })?;
        match fields.iter().any(FieldDescriptor::is_list) {
            true => Err(format!("`{}` is repeated: it can't be in a path", variable.field)),
            false => Ok(fields),
        }
    };
    let variables = template.variables.iter().map(variable).collect::<Result<Vec<_>, _>>()?;
    let body = match text(written, "body").as_str() {
        "" => RequestBody::None,
        "*" => RequestBody::All,
        name => RequestBody::Field(field_of(&call.input, name)?),
    };
    let response = match text(written, "response_body").as_str() {
        "" => None,
        name => Some(field_of(&call.output, name)?),
    };
    Ok(HttpRule { method, template, variables, body, response, call: Arc::clone(call) })
}

/// Maximum names in a field path. Protobuf decoders stop at 100 levels; real requests are a few deep.
pub(crate) const MAX_FIELD_PATH: usize = 32;

/// Why a field path is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldPathError {
    /// A message has no field of that name.
    Unknown,
    /// It has more than [`MAX_FIELD_PATH`] names.
    TooDeep,
}

/// Resolves a path such as `book.author.full_name`, by JSON or `.proto` names.
///
/// # Errors
/// A field is unknown, or the path is too long.
pub(crate) fn field_path(
    message: &MessageDescriptor,
    path: &str,
) -> Result<Vec<FieldDescriptor>, FieldPathError> {
    let mut message = Some(message.clone());
    let mut fields = Vec::new();
    for name in path.split('.') {
        let within = message.ok_or(FieldPathError::Unknown)?;
        let field = within.get_field_by_name(name);
        let field = field.or_else(|| within.get_field_by_json_name(name));
        let field = field.ok_or(FieldPathError::Unknown)?;
        if fields.len() == MAX_FIELD_PATH {
            return Err(FieldPathError::TooDeep);
        }
        message = match field.kind() {
            Kind::Message(inner) if !field.is_list() && !field.is_map() => Some(inner),
            _ => None,
        };
        fields.push(field);
    }
    Ok(fields)
}
