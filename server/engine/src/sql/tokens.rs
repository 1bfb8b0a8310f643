//! Text to one parsed statement, with the spellings of Flink that sqlparser does not read.

use datafusion::sql::sqlparser::ast::{Query, Statement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::error::{Code, Error};
use super::limits;

/// Window functions that other engines know; only the first is supported.
const WINDOWS: [&str; 4] = ["TUMBLE", "HOP", "CUMULATE", "SESSION"];

/// The tokens without comments, white space and trailing semicolons, one space between two of them.
///
/// Two texts with the same result are the same definition, so this goes into the definition hash.
pub fn normalised_tokens(sql: &str) -> Result<String, Error> {
    let mut tokens = significant(sql)?;
    while tokens.last().is_some_and(|t| t.token == Token::SemiColon) {
        tokens.pop();
    }
    Ok(tokens.iter().map(|t| t.token.to_string()).collect::<Vec<_>>().join(" "))
}

/// The one query that the text holds.
pub(super) fn parse(sql: &str) -> Result<Query, Error> {
    let tokens = significant(sql)?;
    if tokens.len() > limits::TOKENS {
        return Err(limits::too_long());
    }
    refuse_windows(&tokens)?;
    let tokens = drop_table_words(tokens);
    let mut statements = Parser::new(&GenericDialect {})
        .with_tokens_with_locations(tokens)
        .parse_statements()
        .map_err(|e| syntax(&e))?;
    match (statements.pop(), statements.is_empty()) {
        (Some(Statement::Query(query)), true) => {
            limits::check(&query)?;
            Ok(*query)
        }
        (None, _) => Err(Error::new(Code::Syntax, "SQL", "the SQL is empty").hint(EXAMPLE)),
        (Some(_), false) => Err(Error::unsupported(
            "a second statement",
            "one SELECT per feature group; create a group for each",
        )),
        (Some(other), true) => {
            let text = other.to_string();
            let verb = text.split_whitespace().next().unwrap_or("statement").to_uppercase();
            Err(Error::unsupported(&verb, EXAMPLE))
        }
    }
}

/// The query that hints show where nothing nearer exists.
pub(super) const EXAMPLE: &str = "a feature group is one SELECT, e.g. SELECT user_id, COUNT(*) AS n \
     FROM TUMBLE(events, DESCRIPTOR(ts), INTERVAL '5' MINUTES) GROUP BY user_id, window_end";

fn significant(sql: &str) -> Result<Vec<TokenWithSpan>, Error> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql)
        .tokenize_with_location()
        .map_err(|e| Error::new(Code::Syntax, "SQL", format!("the SQL cannot be read: {e}")))?;
    Ok(tokens.into_iter().filter(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF)).collect())
}

fn is_word(token: Option<&TokenWithSpan>, word: &str) -> bool {
    matches!(token.map(|t| &t.token), Some(Token::Word(w)) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// HOP and its like are refused before parsing: their own syntax (`PARTITION BY` inside the call)
/// would otherwise end in a syntax error that names nothing.
fn refuse_windows(tokens: &[TokenWithSpan]) -> Result<(), Error> {
    for (i, token) in tokens.iter().enumerate() {
        let call = tokens.get(i + 1).is_some_and(|t| t.token == Token::LParen);
        for window in WINDOWS.iter().skip(1) {
            if call && is_word(Some(token), window) {
                return Err(Error::unsupported(
                    &format!("{window} window"),
                    "the supported window is TUMBLE(stream, DESCRIPTOR(event time), INTERVAL '5' MINUTES)",
                ));
            }
        }
    }
    Ok(())
}

/// `TUMBLE(TABLE events, …)` and `DATA => TABLE events` are the standard's spelling; the word says
/// nothing that its place does not say.
fn drop_table_words(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut kept: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    for token in tokens {
        let before = kept.len().checked_sub(1).and_then(|i| kept.get(i));
        let before_that = kept.len().checked_sub(2).and_then(|i| kept.get(i));
        let argument = match before.map(|t| &t.token) {
            Some(Token::RArrow) => true,
            Some(Token::LParen) => WINDOWS.iter().any(|w| is_word(before_that, w)),
            _ => false,
        };
        if !(argument && is_word(Some(&token), "TABLE")) {
            kept.push(token);
        }
    }
    kept
}

fn syntax(error: &ParserError) -> Error {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.clone(),
        ParserError::RecursionLimitExceeded => "the SQL is nested too deeply".to_owned(),
    };
    Error::new(Code::Syntax, "SQL", format!("the SQL cannot be read: {text}")).hint(EXAMPLE)
}
