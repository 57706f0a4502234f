//! The rules of a descriptor set: which request is which call.

use super::template::{NotText, Template};
use crate::settings::Transcode;
use http::Method;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    Value,
};
use std::{path::Path, sync::Arc};
use values::Mistake;

/// The largest descriptor set that is read, in bytes.
const LARGEST: u64 = 64 << 20;
/// The name of the option that rules are in.
const OPTION: &str = "google.api.http";

/// A method that can be called.
#[derive(Debug)]
pub(crate) struct Call {
    /// `/package.Service/Method`.
    pub(crate) path: String,
    pub(crate) input: MessageDescriptor,
    pub(crate) output: MessageDescriptor,
    /// It answers several messages.
    pub(crate) streams: bool,
}

/// Which part of the request is in the body.
#[derive(Clone, Debug)]
pub(crate) enum Inside {
    /// Nothing.
    None,
    /// All that is not in the path.
    All,
    /// A field.
    Field(FieldDescriptor),
}

/// One way to call a method.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) method: Method,
    pub(crate) template: Template,
    /// The fields of the template's variables, each from the request down.
    pub(crate) variables: Vec<Vec<FieldDescriptor>>,
    pub(crate) body: Inside,
    /// The field of the answer that is answered, in the place of all of it.
    pub(crate) response: Option<FieldDescriptor>,
    pub(crate) call: Arc<Call>,
}

/// Every rule, in the order in which they are tried.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) pool: DescriptorPool,
    rules: Vec<Arc<Rule>>,
    /// `package.Service/Method` of every method in the set, sorted.
    names: Vec<String>,
}

/// What a request is.
pub(crate) enum Found {
    /// A call, and the values of its path's variables.
    Call(Arc<Rule>, Result<Vec<String>, NotText>),
    /// Its path is known, but only with these methods.
    Methods(Vec<Method>),
    /// Nothing.
    Nothing,
}

impl Rules {
    /// Reads the file, and what is in it.
    pub(crate) fn load(settings: &Transcode) -> Result<Self, Vec<Mistake>> {
        let file = &settings.descriptors;
        let wrong = |message: String, hint: &str| {
            vec![Mistake::new(&["transcode", "descriptors"], message, hint)]
        };
        let protoc = "write it with `protoc --include_imports --descriptor_set_out=FILE …`";
        let unreadable = |error: std::io::Error| {
            wrong(format!("the descriptor set `{file}` can't be read: {error}"), protoc)
        };
        let bytes = values::read_regular(Path::new(file), LARGEST).map_err(unreadable)?;
        let pool = DescriptorPool::decode(bytes.as_slice())
            .map_err(|error| wrong(format!("`{file}` is no descriptor set: {error}"), protoc))?;
        Self::new(pool, settings)
    }

    /// The rules of a set.
    pub(crate) fn new(pool: DescriptorPool, settings: &Transcode) -> Result<Self, Vec<Mistake>> {
        let mut it = Self { pool: pool.clone(), rules: Vec::new(), names: Vec::new() };
        let mut mistakes = Vec::new();
        let file = &settings.descriptors;
        for name in settings.services.iter() {
            if pool.get_service_by_name(name).is_none() {
                let message = format!("there is no service `{name}` in `{file}`");
                let known: Vec<_> = pool.services().map(|it| it.full_name().to_owned()).collect();
                let hint = format!("it has {}", known.join(", "));
                mistakes.push(Mistake::new(&["transcode", "services"], message, hint));
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
                    mistakes.push(Mistake::new(&["transcode", "descriptors"], message, ""));
                }
            }
        }
        if it.rules.is_empty() && mistakes.is_empty() {
            let message = format!("no method in `{file}` has a `google.api.http` rule");
            let hint = "add rules, or set `unbound_methods: true`";
            mistakes.push(Mistake::new(&["transcode", "descriptors"], message, hint));
        }
        it.rules.sort_by(|a, b| a.template.order().cmp(&b.template.order()));
        it.names.sort();
        if mistakes.is_empty() { Ok(it) } else { Err(mistakes) }
    }

    /// Which call a request is.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Found {
        let mut others = Vec::new();
        // Where there is a GET, there is a HEAD (RFC 9110, 9.1).
        let mut heads = None;
        for rule in &self.rules {
            let Some(values) = rule.template.matches(path) else { continue };
            if rule.method == *method {
                return Found::Call(Arc::clone(rule), values);
            }
            if rule.method == Method::GET && *method == Method::HEAD && heads.is_none() {
                heads = Some(Found::Call(Arc::clone(rule), values));
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
        if others.is_empty() { Found::Nothing } else { Found::Methods(others) }
    }

    /// Whether `package.Service/Method` is in the set.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.names.binary_search_by(|it| it.as_str().cmp(name)).is_ok()
    }

    fn add(&mut self, method: &MethodDescriptor, unbound: bool) -> Result<(), String> {
        // What a client streams has no form as one JSON request.
        if method.is_client_streaming() {
            return Ok(());
        }
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let call = Arc::new(Call {
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
                let (body, variables) = (Inside::All, Vec::new());
                let method = Method::POST;
                let rule = Rule { method, template, variables, body, response: None, call };
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

fn rule(written: &DynamicMessage, call: &Arc<Call>) -> Result<Rule, String> {
    let (method, path) = pattern(written)?;
    let template = Template::parse(&path)?;
    let field_of = |message: &MessageDescriptor, name: &str| {
        let unknown = || format!("`{}` has no field `{name}`", message.full_name());
        message.get_field_by_name(name).ok_or_else(unknown)
    };
    let variable = |variable: &super::template::Variable| {
        let fields = field_path(&call.input, &variable.field);
        let fields = fields.map_err(|why| match why {
            NoField::Unknown => {
                format!("`{}` has no field `{}`", call.input.full_name(), variable.field)
            }
            NoField::TooDeep => {
                format!("`{}` is deeper than {LONGEST_PATH} names", variable.field)
            }
        })?;
        match fields.iter().any(FieldDescriptor::is_list) {
            true => Err(format!("`{}` is repeated: it can't be in a path", variable.field)),
            false => Ok(fields),
        }
    };
    let variables = template.variables.iter().map(variable).collect::<Result<Vec<_>, _>>()?;
    let body = match text(written, "body").as_str() {
        "" => Inside::None,
        "*" => Inside::All,
        name => Inside::Field(field_of(&call.input, name)?),
    };
    let response = match text(written, "response_body").as_str() {
        "" => None,
        name => Some(field_of(&call.output, name)?),
    };
    Ok(Rule { method, template, variables, body, response, call: Arc::clone(call) })
}

/// How many names a field's path may have. Decoders of protobuf stop at 100 levels; a service's own
/// requests are a few deep.
pub(crate) const LONGEST_PATH: usize = 32;

/// Why a field's path leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoField {
    /// A message has no field of that name.
    Unknown,
    /// It has more than [`LONGEST_PATH`] names.
    TooDeep,
}

/// The fields that a path such as `book.author.full_name` leads through, by either name of each.
///
/// # Errors
/// There are none, or too many.
pub(crate) fn field_path(
    message: &MessageDescriptor,
    path: &str,
) -> Result<Vec<FieldDescriptor>, NoField> {
    let mut message = Some(message.clone());
    let mut fields = Vec::new();
    for name in path.split('.') {
        let within = message.ok_or(NoField::Unknown)?;
        let field = within.get_field_by_name(name);
        let field = field.or_else(|| within.get_field_by_json_name(name));
        let field = field.ok_or(NoField::Unknown)?;
        if fields.len() == LONGEST_PATH {
            return Err(NoField::TooDeep);
        }
        message = match field.kind() {
            Kind::Message(inner) if !field.is_list() && !field.is_map() => Some(inner),
            _ => None,
        };
        fields.push(field);
    }
    Ok(fields)
}
