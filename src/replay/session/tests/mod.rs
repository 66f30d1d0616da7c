mod shop;
mod tokens;
mod values;
