mod shop;
mod values;
