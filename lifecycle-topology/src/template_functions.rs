//! The functions that containerlab adds to Go's templates: `ToJSON ToJSONPretty add subtract mul div idiv rem seq slice`.

use gotmpl::{Template, TemplateError, Value};
use serde_json::Value as Json;

use crate::decode::integer;

type Result<T = Value> = gotmpl::Result<T>;

/// How many numbers one `seq` may have.
const LONGEST_SEQUENCE: i64 = 1_000_000;

/// Makes the functions known to a template that was not parsed yet.
pub(crate) fn add_to(template: Template) -> Template {
    template
        .func("ToJSON", |args| exactly::<1>("ToJSON", args).map(|[value]| Value::from(json(value).to_string())))
        .func("ToJSONPretty", |args| exactly("ToJSONPretty", args).and_then(pretty))
        .func("add", |args| arithmetic("add", args, i64::checked_add, |a, b| a + b))
        .func("subtract", |args| arithmetic("subtract", args, i64::checked_sub, |a, b| a - b))
        .func("mul", |args| arithmetic("mul", args, i64::checked_mul, |a, b| a * b))
        .func("div", |args| {
            let [a, b] = exactly("div", args)?;
            let (a, b) = (float("div", a)?, float("div", b)?);
            if b == 0.0 { Err(failure("div", "division by zero")) } else { Ok(Value::Float(a / b)) }
        })
        .func("idiv", |args| whole("idiv", args, i64::checked_div))
        .func("rem", |args| whole("rem", args, i64::checked_rem))
        .func("seq", sequence)
        .func("slice", slice)
}

fn failure(name: &str, what: &str) -> TemplateError {
    TemplateError::Exec(format!("{name}: {what}"))
}

fn exactly<'a, const N: usize>(name: &str, args: &'a [Value]) -> Result<[&'a Value; N]> {
    let count = TemplateError::ArgCount { name: name.to_owned(), expected: N, got: args.len() };
    let args: Vec<&Value> = args.iter().collect();
    args.try_into().map_err(|_| count)
}

fn not_a_number(name: &str, value: &Value) -> TemplateError {
    failure(name, &format!("expected a number, found {}", value.type_name()))
}

/// A number as text may be written as in Go's source, with commas between thousands.
fn int(name: &str, value: &Value) -> Result<i64> {
    let found = match value {
        Value::Int(number) => Some(*number),
        Value::Uint(number) => i64::try_from(*number).ok(),
        Value::Float(number) => Some(*number as i64),
        Value::Bool(truth) => Some(i64::from(*truth)),
        Value::String(text) => {
            let text = text.replace(',', "");
            integer(&text).or_else(|| text.parse::<f64>().ok().map(|number| number as i64))
        }
        _ => None,
    };
    found.ok_or_else(|| not_a_number(name, value))
}

fn float(name: &str, value: &Value) -> Result<f64> {
    match value {
        Value::Float(number) => Ok(*number),
        Value::String(text) if is_float(value) => text.replace(',', "").parse().map_err(|_| not_a_number(name, value)),
        _ => int(name, value).map(|number| number as f64),
    }
}

fn is_float(value: &Value) -> bool {
    match value {
        Value::Float(_) => true,
        Value::String(text) => integer(text).is_none() && text.parse::<f64>().is_ok(),
        _ => false,
    }
}

fn arithmetic(name: &str, args: &[Value], whole: fn(i64, i64) -> Option<i64>, real: fn(f64, f64) -> f64) -> Result {
    let [a, b] = exactly(name, args)?;
    if is_float(a) || is_float(b) {
        return Ok(Value::Float(real(float(name, a)?, float(name, b)?)));
    }
    whole(int(name, a)?, int(name, b)?).map(Value::Int).ok_or_else(|| failure(name, "the result is too large"))
}

fn whole(name: &str, args: &[Value], operation: fn(i64, i64) -> Option<i64>) -> Result {
    let [a, b] = exactly(name, args)?;
    operation(int(name, a)?, int(name, b)?).map(Value::Int).ok_or_else(|| failure(name, "division by zero"))
}

/// `seq end`, `seq start end` or `seq start end step`; it counts down when the end is below the start.
fn sequence(args: &[Value]) -> Result {
    let numbers = args.iter().map(|arg| int("seq", arg)).collect::<Result<Vec<i64>>>()?;
    let (start, end, step) = match numbers[..] {
        [end] => (1, end, 1),
        [start, end] => (start, end, 1),
        [start, end, step] => (start, end, step),
        _ => return Err(failure("seq", &format!("expected 1, 2 or 3 arguments, found {}", args.len()))),
    };
    let distance = i128::from(end) - i128::from(start);
    let step = i128::from(step).abs() * distance.signum();
    // Without a distance the step does not count, and without a step there is nothing.
    let count = match (distance, numbers.get(2)) {
        (_, Some(0)) => 0,
        (0, _) => 1,
        _ => distance / step + 1,
    };
    if count > i128::from(LONGEST_SEQUENCE) {
        return Err(failure("seq", &format!("more than {LONGEST_SEQUENCE} numbers")));
    }
    let values = (0..count).map(|index| Value::Int((i128::from(start) + index * step) as i64));
    Ok(Value::from(values.collect::<Vec<_>>()))
}

/// A list of its arguments; a part of its first argument, as Go's own `slice`, when that is a list or a text and only
/// whole numbers follow.
fn slice(args: &[Value]) -> Result {
    let bounds: Option<Vec<i64>> = args.iter().skip(1).map(Value::as_int).collect();
    match (args.first(), bounds.as_deref()) {
        (Some(of @ (Value::List(_) | Value::String(_))), Some(&[start])) => of.slice(Some(start), None),
        (Some(of @ (Value::List(_) | Value::String(_))), Some(&[start, end])) => of.slice(Some(start), Some(end)),
        _ => Ok(Value::from(args.to_vec())),
    }
}

fn json(value: &Value) -> Json {
    match value {
        Value::Nil | Value::Function(_) => Json::Null,
        Value::Bool(truth) => (*truth).into(),
        Value::Int(number) => (*number).into(),
        Value::Uint(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::String(text) => text.as_ref().into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(entries) => entries.iter().map(|(key, value)| (key.to_string(), json(value))).collect(),
    }
}

/// JSON over several lines, each but the first after `prefix`, nested ones after `indent`.
fn pretty([value, prefix, indent]: [&Value; 3]) -> Result {
    let text =
        |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| failure("ToJSONPretty", "expected a text"));
    let (prefix, indent) = (text(prefix)?, text(indent)?);
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(&json(value), &mut serializer)
        .map_err(|error| failure("ToJSONPretty", &error.to_string()))?;
    Ok(Value::from(String::from_utf8_lossy(&bytes).replace('\n', &format!("\n{prefix}"))))
}

#[cfg(test)]
mod tests {
    use gotmpl::tmap;

    use super::*;

    fn render(text: &str) -> std::result::Result<String, String> {
        let data = tmap! { "n" => 3i64, "list" => vec![1i64, 2, 3], "map" => tmap! { "b" => "x", "a" => 1.5 } };
        let template = add_to(Template::new("t")).parse(text).map_err(|error| error.to_string())?;
        template.execute_to_string(&data).map_err(|error| error.to_string())
    }

    #[test]
    fn arithmetic_keeps_whole_numbers_whole() {
        for (text, expected) in [
            ("{{ add 1 2 }} {{ add .n -1 }} {{ add \"10\" 5 }} {{ add 1.5 2 }}", "3 2 15 3.5"),
            ("{{ subtract 10 3 }} {{ mul .n 4 }} {{ mul 2 0.5 }}", "7 12 1"),
            ("{{ div 7 2 }} {{ idiv 7 2 }} {{ rem 7 2 }} {{ rem -7 2 }}", "3.5 3 1 -1"),
            ("{{ add (mul (add .n -1) 2) 1 }}", "5"),
            ("{{ add true 2 }} {{ add \"0xFF\" 1 }} {{ add \"1,000\" 1 }}", "3 256 1001"),
        ] {
            assert_eq!(render(text).unwrap(), expected, "{text}");
        }
        for (text, why) in [
            ("{{ add nil 1 }}", "nil"),
            ("{{ add .missing 1 }}", "add: expected a number"),
            ("{{ add \"x\" 1 }}", "add: expected a number"),
            ("{{ add 1 }}", "wrong number of arguments"),
            ("{{ div 1 0 }}", "div: division by zero"),
            ("{{ rem 1 0 }}", "rem: division by zero"),
            ("{{ mul 9223372036854775807 2 }}", "mul: the result is too large"),
        ] {
            assert!(render(text).unwrap_err().contains(why), "{text}: {}", render(text).unwrap_err());
        }
    }

    #[test]
    fn sequences() {
        for (text, expected) in [
            ("seq 4", "[1 2 3 4]"),
            ("seq 4 8", "[4 5 6 7 8]"),
            ("seq 4 8 2", "[4 6 8]"),
            ("seq 10 1 -3", "[10 7 4 1]"),
            ("seq 1 10 -2", "[1 3 5 7 9]"),
            ("seq 10 1 2", "[10 8 6 4 2]"),
            ("seq 0", "[1 0]"),
            ("seq 5 5", "[5]"),
            ("seq 1 10 0", "[]"),
            ("seq -5 -1", "[-5 -4 -3 -2 -1]"),
            ("seq 1.5 5.7 2.1", "[1 3 5]"),
        ] {
            assert_eq!(render(&format!("{{{{ {text} }}}}")).unwrap(), expected, "{text}");
        }
        assert!(render("{{ seq 1000000000 }}").unwrap_err().contains("seq: more than"));
        assert!(render("{{ seq -9223372036854775808 9223372036854775807 }}").is_err());
        assert!(render("{{ seq 1 2 3 4 }}").unwrap_err().contains("expected 1, 2 or 3 arguments"));
    }

    #[test]
    fn lists_and_json() {
        assert_eq!(render("{{ range slice \"a\" \"b\" }}<{{ . }}>{{ end }}").unwrap(), "<a><b>");
        assert_eq!(render("{{ slice .list 1 }} {{ slice .list 1 2 }} {{ slice \"abc\" 1 }}").unwrap(), "[2 3] [2] bc");
        assert_eq!(render("{{ ToJSON .map }}").unwrap(), r#"{"a":1.5,"b":"x"}"#);
        assert_eq!(render("{{ ToJSONPretty .list \"> \" \"  \" }}").unwrap(), "[\n>   1,\n>   2,\n>   3\n> ]");
    }
}
